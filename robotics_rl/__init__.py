"""The library behind train.py, eval.py and the chapter scripts; CONTRIBUTING.md maps its rooms."""
