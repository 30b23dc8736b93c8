"""What is published is true: checkpoints act as their results say, tables match the JSON."""

import contextlib
import dataclasses
from pathlib import Path

import ch02_ppo_dense_reach
import ch03_sac_dense_reach
import ch04_her_sparse_reach_push
import ch09_pixel_push
import check_repro
import lab_seeds
import pytest

from robotics_rl import artifacts, checkpoints
from robotics_rl.artifacts import RunPaths, read_json
from robotics_rl.options import parse_seeds
from robotics_rl.pixel_schemas import Distillation, Miniature, Probe
from robotics_rl.schemas import (
    Comparison,
    Evaluation,
    Journey,
    Metadata,
    SweepAnalysis,
    TrivialGoals,
)

ROOT = Path(__file__).parent.parent
PUBLISHED = sorted((ROOT / "results").rglob("*_eval.json"))
LABS = sorted((ROOT / "results" / "labs").glob("*.json"))
CARDS = (ch02_ppo_dense_reach.CARD, ch03_sac_dense_reach.CARD)
BENCHMARKS = sorted((ROOT / "results" / "benchmarks").glob("*.json"))


def checkpoint_results():
    """Paths from the root, as commands find them there."""
    with contextlib.chdir(ROOT):
        return [path for path, _ in artifacts.checkpoint_evaluations("results")]


def to_replay():
    """Every result; all but the first of each kind of run take time that not every push has.

    Policies that see are one kind, since pictures take most of it.
    """
    seen = set()
    for path in checkpoint_results():
        sees = path.stem.startswith(f"{ch09_pixel_push.CARD.chapter}_")
        kind = (
            ch09_pixel_push.CARD.chapter
            if sees
            else (path.parent, path.stem.rpartition("_seed")[0])
        )
        yield pytest.param(path, marks=[pytest.mark.slow] if kind in seen else [])
        seen.add(kind)


def test_something_is_published():
    assert checkpoint_results()


@pytest.mark.parametrize("path", list(to_replay()), ids=lambda path: path.stem)
def test_a_published_checkpoint_does_what_its_result_says(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    again = check_repro.replay(path)
    assert again.holds, again.row()


@pytest.mark.parametrize("path", checkpoint_results(), ids=lambda path: path.stem)
def test_a_published_checkpoint_has_metadata_and_a_curve(path):
    checkpoint = ROOT / read_json(ROOT / path)["checkpoint"]
    metadata = checkpoints.read_metadata(checkpoint)
    assert isinstance(metadata, Metadata)
    assert metadata.checkpoint_sha256 == artifacts.sha256_of(checkpoint)
    assert metadata.git["dirty"] is False
    run_name = metadata.run_name or metadata.algo + ("_her" if metadata.her else "")
    logs = RunPaths(checkpoint, ROOT / "runs" / (metadata.run_tag or "") / run_name)
    assert (logs.logs / metadata.env_id / f"seed{metadata.seed}" / "curves.csv").exists()


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmarks_were_run_from_commits(path):
    document = read_json(path)
    assert all(run["git"]["dirty"] is False for run in document.get("runs", [document]))


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_labs_learn_on_every_published_seed(path):
    demo, document = lab_seeds.DEMOS[path.stem], read_json(path)
    assert [row["seed"] for row in document["rows"]] == parse_seeds(demo.seeds)
    assert document["n_learned"] == len(document["rows"])
    assert all(demo.learned(row) for row in document["rows"])
    assert all(row.get("git", document["git"])["dirty"] is False for row in document["rows"])


@pytest.mark.parametrize(
    ("name", "figure", "most"),
    [
        ("ppo_cartpole", "steps_to_target", 50_000),
        ("ppo_cartpole", "seconds", 40),
        ("sac_pendulum", "steps_to_solved", 15_000),
        ("ddpg_her_point_reach", "seconds_with_her", 60),
    ],
)
def test_labs_learn_in_the_steps_and_seconds_they_should(name, figure, most):
    document = read_json(ROOT / "results" / "labs" / f"{name}.json")
    assert max(row[figure] for row in document["rows"]) <= most


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("card", "success", "mean_return", "distance"),
    [(ch02_ppo_dense_reach.CARD, 0.90, -10, 0.02), (ch03_sac_dense_reach.CARD, 0.95, -5, 0.03)],
)
def test_published_results_meet_the_criteria_of_their_chapter(
    card, success, mean_return, distance, seed, monkeypatch
):
    monkeypatch.chdir(ROOT)
    result = read_json(card.evaluation_path(card.settings({"seed": seed}), "results"))["aggregate"]
    assert result["success_rate"] >= success
    assert result["return_mean"] > mean_return
    assert result["final_distance_mean"] < distance


@pytest.mark.parametrize("seed", range(3))
def test_push_is_solved_by_the_fast_path_of_its_chapter(seed, monkeypatch):
    monkeypatch.chdir(ROOT)
    card = ch04_her_sparse_reach_push.CARD
    settings = card.settings({"seed": seed, "run_tag": "fastpath"})
    result = read_json(card.evaluation_path(settings, "results"))
    assert result["n_episodes"] == 100
    assert result["aggregate"]["success_rate"] >= 0.90
    assert result["aggregate"]["return_mean"] > -20
    assert result["aggregate"]["final_distance_mean"] < 0.05
    metadata = read_json(RunPaths.of(settings).metadata)
    assert (metadata["steps_done"], metadata["hyperparameters"]["ent_coef"]) == (500_000, 0.05)
    assert metadata["training"]["wall_seconds"] + result["wall_seconds"] <= 600


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "FetchPush-v4"])
def test_hindsight_is_what_solves_sparse_tasks(env_id):
    comparison = read_json(ROOT / "results" / f"ch04_{env_id.lower()}_comparison.json")
    success = {name: group["success_rate"] for name, group in comparison["groups"].items()}
    floor = comparison["baselines"]["do_nothing"]["success_rate"]
    assert comparison["seeds"] == list(range(5))
    assert comparison["n_episodes"] == 100
    assert success["HER"]["mean"] >= {"FetchReach-v4": 1.0, "FetchPush-v4": 0.95}[env_id]
    assert success["HER"]["mean"] - floor >= 0.85
    assert success["no-HER"]["mean"] <= floor + 0.05


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.chapter)
def test_published_policies_were_trained_and_played_as_long_as_the_books(card, monkeypatch):
    monkeypatch.chdir(ROOT)
    for seed in range(3):
        settings = card.settings({"seed": seed})
        metadata = read_json(RunPaths.of(settings).metadata)
        assert metadata["total_steps"] == 1_000_000 <= metadata["steps_done"] < 1_010_000
        result = read_json(card.evaluation_path(settings, "results"))
        assert result["checkpoint_sha256"] == metadata["checkpoint_sha256"]
        assert result["deterministic"] is True
        assert result["seeds"] == [episode["seed"] for episode in result["per_episode"]]
        assert result["seeds"] == list(range(100))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.chapter)
def test_a_published_comparison_says_what_its_evaluations_say(card, monkeypatch):
    monkeypatch.chdir(ROOT)
    comparison = read_json(card.comparison_path("results", None))
    [spreads], [training] = (comparison[key].values() for key in ("groups", "trainings"))
    results = [read_json(card.evaluation_path(card.settings({"seed": n}), "results"))
               for n in range(3)]  # fmt: skip
    assert training["total_steps"] == 1_000_000
    assert comparison["n_episodes"] == 100
    for metric, spread in spreads.items():
        values = {str(result["training_seed"]): result["aggregate"][metric] for result in results}
        assert spread["values"] == values
        assert spread["mean"] == pytest.approx(sum(values.values()) / 3)
    for name, floor in comparison["baselines"].items():
        played = read_json(ROOT / "results" / f"{name}_{card.env_id.lower()}_eval.json")
        assert played["seeds"] == results[0]["seeds"]
        assert floor.items() <= played["aggregate"].items()


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_evaluation_has_every_field_of_its_schema(path):
    names = {row.name for row in dataclasses.fields(Evaluation)}
    assert read_json(path).keys() == names | {"schema"}


@pytest.mark.parametrize(
    ("pattern", "schema"),
    [
        ("trivial_goals.json", TrivialGoals),
        ("*_comparison.json", Comparison),
        ("sweep_*_analysis.json", SweepAnalysis),
        ("*_journey.json", Journey),
        ("ch09_probe.json", Probe),
        ("ch09_miniature.json", Miniature),
        ("ch09_distill.json", Distillation),
    ],
)
def test_published_documents_fit_their_schema(pattern, schema):
    names = {row.name for row in dataclasses.fields(schema)}
    found = sorted((ROOT / "results").rglob(pattern))
    assert found
    for path in found:
        document = read_json(path)
        assert document.keys() == names | {"schema"}, path
        assert document["schema"] == schema.schema


def test_push_is_solved_from_pictures_by_the_recipe_of_its_chapter():
    name = "ch09_manip_criticEnc_FetchPush-v4_seed0"
    metadata = read_json(ROOT / "checkpoints" / "step4" / f"{name}.meta.json")
    flags = {"recipe": "fast", "cuda_graphs": True, "seed": 0, "run_tag": "step4"}
    settings = ch09_pixel_push.CARD.settings(flags)
    assert settings.run_name == metadata["run_name"]
    ours = settings.identity()
    told = metadata["hyperparameters"] | {name: metadata[name] for name in ("seed", "total_steps")}
    for setting in ours.keys() & told.keys():
        value = ours[setting]
        assert told[setting] == (list(value) if isinstance(value, tuple) else value), setting
    assert settings.pixels.vectors == ("proprioception", "desired_goal")
    result = read_json(ROOT / "results" / "step4" / f"{name}_eval.json")
    assert result["aggregate"]["success_rate"] >= 0.9
