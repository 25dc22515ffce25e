"""The miniature world of everyday things: GenEval++'s 80 kinds on a 3 x 3 grid."""
