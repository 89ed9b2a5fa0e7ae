"""What the experiments of several claims share: small models, short trainings, loops over seeds, trends."""
