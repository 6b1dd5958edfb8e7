-- Puts facts into inboxes of runs. ARGV: (run, fact) of each. Answers 1 for each run that is kept.
local answers = {}
for i = 1, #ARGV, 2 do answers[#answers + 1] = tell_if_kept(ARGV[i], ARGV[i + 1]) end
flush(true)
publish('\0\0', 1)
return answers
