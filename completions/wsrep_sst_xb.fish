complete -c wsrep_sst_xb -l role -d 'Which side of the transfer this is' -r -f -a "joiner\t''
donor\t''"
complete -c wsrep_sst_xb -l address -d 'Where the joiner listens; the port is 4444 if there is none' -r
complete -c wsrep_sst_xb -l datadir -d 'Data directory' -r -F
complete -c wsrep_sst_xb -l seed -d 'Write the position of the backup in DIR, which is applied or copied back, into its grastate.dat; nothing else' -r -F
complete -c wsrep_sst_xb -l defaults-file -d 'Read this option file only' -r -F
complete -c wsrep_sst_xb -l defaults-extra-file -d 'Read this option file after the system\'s' -r -F
complete -c wsrep_sst_xb -l defaults-group-suffix -d 'Also read groups with this suffix' -r
complete -c wsrep_sst_xb -l parent -d 'Joiner: process of mariadbd; the transfer ends when it does' -r
complete -c wsrep_sst_xb -l socket -d 'Donor: socket for clients' -r -F
complete -c wsrep_sst_xb -l local-port -d 'Donor: port for clients; the socket is used' -r
complete -c wsrep_sst_xb -l gtid -d 'Donor: position in the history of the cluster' -r
complete -c wsrep_sst_xb -l gtid-domain-id -d 'Donor: domain of GTIDs' -r
complete -c wsrep_sst_xb -l binlog -d 'Base name of the binary log' -r -F
complete -c wsrep_sst_xb -l binlog-index -d 'Index of the binary log' -r -F
complete -c wsrep_sst_xb -l progress -d '1 if wsrep_debug is on; has no effect' -r
complete -c wsrep_sst_xb -l mysqld-args -d 'The arguments of mariadbd; the last option' -r
complete -c wsrep_sst_xb -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c wsrep_sst_xb -l bypass -d 'Donor: send no data, for an incremental transfer follows'
complete -c wsrep_sst_xb -s h -l help -d 'Print help'
complete -c wsrep_sst_xb -s V -l version -d 'Print version'
