complete -c xb-snap -l datadir -d 'The server\'s data directory, as seen from here' -r -F
complete -c xb-snap -s j -l threads -l parallel -d 'Copy with N threads [default: number of processors, at most 4]' -r
complete -c xb-snap -l cache -d 'How to read files; auto leaves the page cache unchanged' -r -f -a "auto\t'Cached data from the cache, other data directly'
direct\t'Directly, without the cache'
drop\t'Through the cache; from the first miss on, the rest of a file is dropped again, including what was cached before'
keep\t'Through the cache, where it stays'"
complete -c xb-snap -l lock-ddl -d 'When to block DDL: early, from the start; end, for a short time at the end, when changed tables are copied again; off (MariaDB only), for a short time at the end, and the run fails if a table has changed [default: end for MariaDB, early for MySQL]' -r -f -a "early\t'Blocked from the start'
end\t'Allowed until a short lock at the end, under which changed tables are copied again'
off\t'Allowed; the backup is invalid if a table changed'"
complete -c xb-snap -l lock-timeout -d 'Fail if a lock is not granted within S seconds' -r
complete -c xb-snap -l extra-lsndir -d 'Also write xb_begin, xb_pages, xtrabackup_checkpoints and xtrabackup_info to DIR, once the next program has read the whole stream: all that --incremental-basedir needs' -r -F
complete -c xb-snap -l spool-dir -d 'Keep files copied under a lock that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /var/tmp]' -r -F
complete -c xb-snap -l incremental-basedir -d 'Copy only what changed since the backup in BASE: a directory, its --extra-lsndir, or a file with its stream' -r -F
complete -c xb-snap -l incremental-lsn -d 'Copy only what changed since LSN, the to_lsn of a backup' -r
complete -c xb-snap -l incremental-history -l incremental-history-name -d 'Copy only what changed since the newest backup NAME in the server\'s history table, which mariadb-backup writes' -r
complete -c xb-snap -l incremental-history-uuid -d 'The same since the backup with this UUID there' -r
complete -c xb-snap -l history -d 'Note the backup as NAME in the server\'s table of backups, once the next program has taken the whole stream: in mysql.mariadb_backup_history, or PERCONA_SCHEMA.xtrabackup_history; it is made if it is not there' -r
complete -c xb-snap -l history-field -d 'What to note of what xb-snap does not know: tool_name, tool_command, format, compressed or encrypted' -r
complete -c xb-snap -l tables -d 'Copy only tables whose db.table matches one of these regular expressions, separated by commas' -r
complete -c xb-snap -l tables-exclude -d 'Leave out tables whose db.table matches one of these regular expressions, separated by commas' -r
complete -c xb-snap -l tables-file -d 'Copy only the tables in FILE, one db.table per line' -r -F
complete -c xb-snap -l databases -d 'Copy only these databases and tables: db or db.table, separated by blanks' -r
complete -c xb-snap -l databases-exclude -d 'Leave out these databases and tables: db or db.table, separated by blanks' -r
complete -c xb-snap -l databases-file -d 'Copy only the databases and tables in FILE, one per line' -r -F
complete -c xb-snap -l defaults-file -d 'Read this option file only' -r -F
complete -c xb-snap -l defaults-extra-file -d 'Read this option file after the system\'s' -r -F
complete -c xb-snap -l defaults-group-suffix -d 'Also read groups with this suffix' -r
complete -c xb-snap -l login-path -d 'Also read the group NAME of .mylogin.cnf, which mysql_config_editor writes' -r
complete -c xb-snap -s u -l user -d 'Connect as this account [default: the system user]' -r
complete -c xb-snap -s S -l socket -d 'Connect through this socket' -r -F
complete -c xb-snap -l host -d 'Connect by TCP, except to localhost; the server\'s files must still be on this host' -r
complete -c xb-snap -s P -l port -d 'Connect by TCP to this port' -r
complete -c xb-snap -l protocol -d 'Connect by TCP or through the socket' -r -f -a "tcp\t'A port of a host'
socket\t'A socket on this host'"
complete -c xb-snap -l connect-timeout -d 'Fail if connecting takes more than S seconds [default: 10]' -r
complete -c xb-snap -l password-file -d 'Read the password from the first line of FILE, which only its owner may read' -r -F
complete -c xb-snap -l ssl-mode -d 'When to encrypt, and what to verify of the server\'s certificate' -r -f -a "disabled\t'Not encrypted'
preferred\t'Encrypted by TCP, if the server offers it'
required\t'Encrypted, or no connection'
verify_ca\t'So, and the server\'s certificate is issued by an authority of --ssl-ca or --ssl-capath'
verify_identity\t'So, and the certificate is made for this host'"
complete -c xb-snap -l ssl-ca -d 'Trust the certificate authorities in this PEM file, and verify the server\'s certificate' -r -F
complete -c xb-snap -l ssl-capath -d 'Trust the certificate authorities in the files of this directory' -r -F
complete -c xb-snap -l ssl-cert -d 'Present this certificate (PEM) to the server, for accounts with REQUIRE X509' -r -F
complete -c xb-snap -l ssl-key -d 'Private key of that certificate (PEM, without a passphrase)' -r -F
complete -c xb-snap -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-snap -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-snap -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-snap -l trust-datadir -d 'Continue if nothing proves that the data directory belongs to the server that answers; if it is shown to be another server\'s, it is still refused'
complete -c xb-snap -l no-lock -d 'Take no locks; safe only while no DDL runs and nothing writes to tables that are not InnoDB'
complete -c xb-snap -l safe-replica -l safe-slave-backup -d 'Stop replication at a moment when it has no temporary table open'
complete -c xb-snap -l replica-info -l slave-info -d 'Add xtrabackup_slave_info: the statements to replicate from this server\'s sources'
complete -c xb-snap -l galera-info -d 'Add xtrabackup_galera_info: the state of this Galera node'
complete -c xb-snap -l checkpoint-now -l innodb-log-checkpoint-now -d 'Have the server write out its pages and make a checkpoint before: less log is needed, and the server has more to do'
complete -c xb-snap -l offline -d 'Copy a stopped server, without a connection; option files and --datadir say where it is'
complete -c xb-snap -l no-defaults -d 'Read no option file'
complete -c xb-snap -l ssl -d 'Encrypt the connection, and fail if that is impossible [default: by TCP, if the server offers it]'
complete -c xb-snap -l skip-ssl -d 'Do not encrypt the connection'
complete -c xb-snap -l ssl-verify-server-cert -d 'Also verify that the server\'s certificate is for the host in --host'
complete -c xb-snap -l skip-ssl-verify-server-cert -d 'Do not verify the host name, even if an option file says so'
complete -c xb-snap -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-snap -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-snap -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xb-snap -s V -l version -d 'Print version'
