complete -c xb-redo -l datadir -d 'Directory of the redo log, if it is not where the stream says; with --copy-back, the data directory to fill' -r -F
complete -c xb-redo -l keyring -d 'Keys for an encrypted redo log of MySQL: the data file of component_keyring_file' -r -F
complete -c xb-redo -l spool-dir -d 'Keep log that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /var/tmp]' -r -F
complete -c xb-redo -l spool-memory -d 'Keep up to SIZE of it in memory' -r
complete -c xb-redo -l spool-limit -d 'Fail if more than SIZE has to be kept [default: no limit]' -r
complete -c xb-redo -l memory -d 'Use at most SIZE of memory for names, open members and tablespaces; the program needs more in total' -r
complete -c xb-redo -l apply -d 'Turn the backup in DIR into a data directory: a server recovers it, offline' -r -F
complete -c xb-redo -l merge -d 'Merge increments into the backup in DIR, without applying it' -r -F
complete -c xb-redo -l incremental-dir -d 'Unpacked increments, in the order in which they were made' -r -F
complete -c xb-redo -l status -d 'Describe DIR in one line; exit status 0 if it can be used' -r -F
complete -c xb-redo -l copy-back -d 'Copy the applied backup in DIR into an empty data directory' -r -F
complete -c xb-redo -l defaults-file -d 'With --copy-back: the server\'s option file, which says where its files go' -r -F
complete -c xb-redo -l defaults-group-suffix -d 'With --defaults-file: read its groups with this suffix, too' -r
complete -c xb-redo -l innodb-directories -d 'With --copy-back: return tables with a DATA DIRECTORY below one of these to it; separated by semicolons [default: innodb_directories of the option file]' -r -F
complete -c xb-redo -l to -d 'Leave the backup unchanged, and apply or merge in a copy in NEWDIR' -r -F
complete -c xb-redo -l hole-limit -d 'Let increments add at most SIZE of zeros to tablespaces, in addition to 128 for each byte that was copied [default: 1g]' -r
complete -c xb-redo -l use-memory -d 'Size of the server\'s buffer pool [default: depends on the log and the free memory]' -r
complete -c xb-redo -l server -d 'Server program [default: the newest one of the right version]' -r -F
complete -c xb-redo -l server-option -d 'Set a server option that the backup lacks or that is different on this host, such as the path of keys or plugins; with --copy-back: where files go, instead of what the option file says' -r
complete -c xb-redo -l owner -d 'Give the files to USER [default: the data directory\'s owner]' -r
complete -c xb-redo -s j -l threads -l parallel -d 'Use N threads [default: number of processors, at most 4]' -r
complete -c xb-redo -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-redo -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-redo -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-redo -l verify -d 'Read and verify every file, including those that have not changed since xb-unpack wrote them'
complete -c xb-redo -l wait -d 'With --apply: increments may follow; check everything, and leave the log to --copy-back, or to the server that is started on DIR. What a server would not do by itself is done now'
complete -c xb-redo -l rollback-prepared -d 'With --apply: also roll back XA transactions that clients have prepared and not ended; no increment fits any more'
complete -c xb-redo -l force-recovery -d 'With --apply: pass over damaged pages and files (innodb_force_recovery=1). Rows may be missing in the result: dump it, and do not go on with it'
complete -c xb-redo -l native -d 'With --apply: apply the log without a server. Only MariaDB; not with encryption'
complete -c xb-redo -l json -d 'With --status: print a JSON object instead of the line'
complete -c xb-redo -l move -d 'With --copy-back: move the files; the backup no longer exists afterwards'
complete -c xb-redo -l keep-existing -d 'With --copy-back: the data directory may hold something else, which stays; no file of the backup may be there'
complete -c xb-redo -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-redo -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-redo -s h -l help -d 'Print help'
complete -c xb-redo -s V -l version -d 'Print version'
