"""What is checked before a candidate meets traffic: schemas, dependencies, artifacts. Nothing is executed."""
