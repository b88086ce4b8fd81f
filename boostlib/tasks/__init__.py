"""A task is prompts, references and a quality function. `load_task` is the only door.

Not covered: sampling, training, noise on the verdict (filters).
"""
