"""Pairs of sentences in two languages: the translator, BLEU and chrF."""
