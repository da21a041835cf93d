complete -c xb-redo -l datadir -d 'Read the log below DIR, when it is not where the stream says' -r -F
complete -c xb-redo -l spool-dir -d 'Keep log that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /tmp]' -r -F
complete -c xb-redo -l spool-memory -d 'Keep up to SIZE of it in memory' -r
complete -c xb-redo -l spool-limit -d 'Fail when more than SIZE has to be kept [default: no limit]' -r
complete -c xb-redo -l progress -d 'Show how far it is on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-redo -l log -d 'How messages are written on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-redo -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-redo -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-redo -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-redo -s h -l help -d 'Print help'
complete -c xb-redo -s V -l version -d 'Print version'
