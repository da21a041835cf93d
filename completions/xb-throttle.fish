complete -c xb-throttle -s L -l rate-limit -d 'Let RATE bytes a second pass; 0 for no limit' -r
complete -c xb-throttle -s s -l size -d 'Expect SIZE bytes; auto: what the first member of the stream says' -r
complete -c xb-throttle -s i -l interval -d 'Tell how far it is every SEC seconds [default: 1, in a log 5]' -r
complete -c xb-throttle -s N -l name -d 'Show NAME with it' -r
complete -c xb-throttle -l burst -d 'After a stall, send at most what the rate allows in MS milliseconds at once' -r
complete -c xb-throttle -s R -l remote -d 'Give the running xb-throttle with this process id the rate of -L' -r
complete -c xb-throttle -l progress -d 'Show how far it is on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-throttle -l log -d 'How messages are written on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-throttle -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-throttle -s n -l numeric -d 'Print numbers only: per cent, or bytes if the size is not known'
complete -c xb-throttle -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-throttle -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-throttle -s h -l help -d 'Print help'
complete -c xb-throttle -s V -l version -d 'Print version'
