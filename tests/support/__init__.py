"""What the tests share: the command in this process or its own, generated data, fake evaluations, references."""
