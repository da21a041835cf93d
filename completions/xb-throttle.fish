complete -c xb-throttle -s L -l rate-limit -d 'Limit the rate to RATE bytes per second; 0 for no limit' -r
complete -c xb-throttle -s s -l size -d 'Expect SIZE bytes; auto: the estimate in the first member of the stream' -r
complete -c xb-throttle -s i -l interval -d 'Show progress every SEC seconds [default: 1; in a log 5]' -r
complete -c xb-throttle -s N -l name -d 'Show NAME before the progress' -r
complete -c xb-throttle -l burst -d 'After a stall, send at most the amount for MS milliseconds at once' -r
complete -c xb-throttle -s R -l remote -d 'Set the rate of the running xb-throttle with this process id to that of -L' -r
complete -c xb-throttle -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-throttle -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-throttle -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-throttle -s n -l numeric -d 'Print numbers only: per cent, or bytes if the size is not known'
complete -c xb-throttle -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-throttle -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-throttle -s h -l help -d 'Print help'
complete -c xb-throttle -s V -l version -d 'Print version'
