complete --keep-order --exclusive --command goflow --arguments "(COMPLETE=fish goflow -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
