"""The methods, a module each; see :mod:`npcorrect.evaluation.method`."""
