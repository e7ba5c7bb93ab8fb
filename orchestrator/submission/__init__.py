"""A submission to DCASE 2021 task 1a: LABEL.output.csv and LABEL.meta.yaml, written and checked."""
