"""What acts: guided denoisers, which critic may rank their candidates, and a policy as two files."""
