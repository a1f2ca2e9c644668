"""The claims, one a file, named after its id: ``m2_random_products`` holds M2 as ``CLAIM``."""
