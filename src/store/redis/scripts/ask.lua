-- Asks jobs to end. ARGV: ids. Answers 1 for each that is kept and had not ended.
local answers = {}
for i = 1, #ARGV do answers[i] = ask(ARGV[i]) end
publish('\0\0', 1)
return answers
