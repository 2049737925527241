"""The command line. Modules here import torch only inside command bodies, so that help and listings are quick."""
