complete -c xb-redo -l datadir -d 'Where the redo log is looked for, if not where the stream says; with --copy-back, the directory to fill' -r -F
complete -c xb-redo -l keyring -d 'Keys of an encrypted redo log of MySQL: the data file of component_keyring_file' -r -F
complete -c xb-redo -l spool-dir -d 'Keep log that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /var/tmp]' -r -F
complete -c xb-redo -l spool-memory -d 'Keep up to SIZE of it in memory' -r
complete -c xb-redo -l spool-limit -d 'Fail when more than SIZE has to be kept [default: no limit]' -r
complete -c xb-redo -l memory -d 'Most memory for names, open members and tablespaces; more is needed in all' -r
complete -c xb-redo -l apply -d 'Make the backup in DIR a data directory: a server recovers it, offline' -r -F
complete -c xb-redo -l merge -d 'Make increments part of the backup in DIR, without applying it' -r -F
complete -c xb-redo -l incremental-dir -d 'The increments, unpacked, in the order in which they were made' -r -F
complete -c xb-redo -l status -d 'Say in one line what DIR is; exit status 0 if it can be used' -r -F
complete -c xb-redo -l copy-back -d 'Copy the applied backup in DIR into an empty data directory' -r -F
complete -c xb-redo -l defaults-file -d 'With --copy-back: the option file of the server, which says where its files are to be' -r -F
complete -c xb-redo -l defaults-group-suffix -d 'With --defaults-file: read its groups with this suffix, too' -r
complete -c xb-redo -l innodb-directories -d 'With --copy-back: tables that had a DATA DIRECTORY in one of these go back there; separated by semicolons [default: innodb_directories of the option file]' -r -F
complete -c xb-redo -l to -d 'Leave the backup as it is and apply, or merge, to a copy in NEWDIR' -r -F
complete -c xb-redo -l hole-limit -d 'Most zeros by which increments let tablespaces grow, beside 128 for each byte that was copied [default: 1g]' -r
complete -c xb-redo -l use-memory -d 'Memory for the server\'s buffer pool [default: by the log and what is free]' -r
complete -c xb-redo -l server -d 'The server program [default: the newest that fits]' -r -F
complete -c xb-redo -l server-option -d 'An option for it that the backup lacks, or has another value of: where keys or plugins are on this host; with --copy-back, where files are to be, before what the option file says' -r
complete -c xb-redo -l owner -d 'Give the files to USER [default: the data directory\'s owner]' -r
complete -c xb-redo -s j -l threads -l parallel -d 'Read and copy in N threads [default: number of processors, at most 4]' -r
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
complete -c xb-redo -l verify -d 'Read every file and hold it against the manifest, also those that are as xb-unpack left them'
complete -c xb-redo -l wait -d 'With --apply: increments may follow; check everything, and leave the log to --copy-back, or to the server that is started on DIR. What a server would not do by itself is done now'
complete -c xb-redo -l json -d 'With --status: print a JSON object instead of the line'
complete -c xb-redo -l move -d 'With --copy-back: move the files; the backup is gone then'
complete -c xb-redo -l keep-existing -d 'With --copy-back: the data directory may hold something else, which stays; no file of the backup may be there'
complete -c xb-redo -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-redo -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-redo -s h -l help -d 'Print help'
complete -c xb-redo -s V -l version -d 'Print version'
