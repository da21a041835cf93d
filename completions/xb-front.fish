complete -c xb-front -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-front -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-front -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-front -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-front -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-front -s h -l help -d 'Print help'
complete -c xb-front -s V -l version -d 'Print version'
