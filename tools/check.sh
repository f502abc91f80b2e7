# shellcheck shell=bash
# What can be checked of a recipe without building it.
