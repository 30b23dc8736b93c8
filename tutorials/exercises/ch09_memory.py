"""What a replay of pictures takes, with every frame once and with two stacks a transition."""

from robotics_rl.replay.memory_plan import FrameShape, plan

for frame_stack in (4, 2):
    sizes = {"proprioception": 10, "goal": 3, "action": 4}
    shape = FrameShape(n_envs=4, horizon=50, frame=(3, 84, 84), frame_stack=frame_stack, **sizes)
    for capacity in (50_000, 100_000, 200_000, 500_000):
        print(f"stacks of {frame_stack}: {plan(capacity, shape)}")
