"""One file per verb: run(recipe) -> Report. Nothing here prints."""
