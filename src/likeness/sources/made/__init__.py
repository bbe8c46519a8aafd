"""Data sets that are generated, each a recipe with a seed: made:trifeature, made:digit-on, ... Nothing is fetched."""
