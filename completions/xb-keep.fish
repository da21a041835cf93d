# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_xb_keep_global_optspecs
    string join \n v/verbose q/quiet progress= log= generate= h/help V/version
end

function __fish_xb_keep_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_xb_keep_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_xb_keep_using_subcommand
    set -l cmd (__fish_xb_keep_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c xb-keep -n "__fish_xb_keep_needs_command" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_needs_command" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_needs_command" -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-keep -n "__fish_xb_keep_needs_command" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -s V -l version -d 'Print version'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "init" -d 'Make a store in a directory that is empty or does not exist'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "full" -d 'Make a full backup by the pipeline of the settings'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "incr" -d 'Make an incremental backup'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "add" -d 'Store a stream from stdin, made by any pipeline on any host'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "list" -d 'List the backups; with ID the members of one: size, size in the store, name'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "show" -d 'Print what is known of a backup, as JSON'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "cat" -d 'Write a backup to stdout as a stream; with patterns only the members that match'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "verify" -d 'Read and prove what is stored, without restoring it'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "restore" -d 'Restore a backup with all that it builds on into a directory on which a server can start'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "drill" -d 'Prove that a backup restores: a private server starts on it and checks all tables'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "prune" -d 'Remove the backups that no rule keeps, and what runs left that were cut off'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "pin" -d 'Keep a backup whatever the rules say'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "unpin" -d 'No longer do so'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "status" -d 'Judge the store for monitoring: exit status 0 OK, 1 warning, 2 critical, 3 unknown'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "binlog" -d 'Archive the binary logs of the server, as they grow'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "binlog-floor" -d 'Print the oldest binary log that a backup of the store still needs'
complete -c xb-keep -n "__fish_xb_keep_needs_command" -f -a "last-lsn" -d 'Print the LSN from which a hand-made increment begins'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand init" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand init" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand init" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand init" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand init" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand init" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -l label -d 'Call it LABEL' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand full" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -l base -d 'Since the last backup, the last full one, or the one with this id' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -l label -d 'Call it LABEL' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand incr" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l kind -d 'What it is' -r -f -a "full\t'A full backup'
incremental\t'An increment'
files\t'Files, which are no backup of a server'"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l parent -d 'The base of an increment, if the stream does not tell' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l label -d 'Call it LABEL' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l undo -d 'The program that turns the stream into an xbstream, with its arguments separated by blanks; may be repeated, from left to right [default: what the stream shows]' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -s k -l key-file -d 'The key, if it is not where it was when the backup was made' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -l json -d 'As JSON'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand list" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -l field -d 'Only this field: to_lsn, binlog.file' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -l messages -d 'What the programs said that made it'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand show" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -s k -l key-file -d 'The key, if it is not where it was when the backup was made' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -l raw -d 'As it is stored: compressed, encrypted'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand cat" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -s k -l key-file -d 'The key, if it is not where it was when the backup was made' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -l all -d 'All backups of the store'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -l pages -d 'Also verify every page of InnoDB tablespaces'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand verify" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l to -d 'The directory, which is empty or does not exist' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l until -d 'Then replay the archived binary logs up to a moment: a time (local, or UTC with a Z), a GTID, FILE:POSITION, or end for all that is archived; latest is the newest backup before it' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l replica -d 'Print the statements that make the restored server a replica' -r -f -a "server\t'Of the server that was copied'
source\t'Of the server from which that one replicated'"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l datadir -d 'With --copy-back: the data directory, which is empty' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l owner -d 'With --copy-back: the owner of the files' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -s k -l key-file -d 'The key, if it is not where it was when the backup was made' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l plan -d 'Print the steps, and do nothing'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -l copy-back -d 'Copy the result into the data directory of a server that is stopped'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -l scratch -d 'Restore below DIR, and remove it afterwards [default: that of the settings, $TMPDIR or /var/tmp]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -s k -l key-file -d 'The key, if it is not where it was when the backup was made' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand drill" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-last -d 'Keep the last N sets: a full backup with its increments' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-hourly -d 'Keep the newest set of each of the last N hours that have one' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-daily -d 'The same for days' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-weekly -d 'The same for weeks' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-monthly -d 'The same for months' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-yearly -d 'The same for years' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l keep-within -d 'Keep all sets with a backup that is not older than this, counted back from the newest one: 2y5m7d3h' -r
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -l dry-run -d 'Print what would be done and why, and do nothing'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand prune" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand pin" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand pin" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand pin" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand pin" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand pin" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand pin" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand unpin" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand unpin" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand unpin" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand unpin" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand unpin" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand unpin" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -l format -d 'The form of the answer' -r -f -a "nagios\t'One line with performance data'
zabbix\t'The number of the state'
json\t'An object'
prometheus\t'Text for the node exporter'"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -l once -d 'Archive what is there, and end'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -l after-gap -d 'Go on although the server has purged what the archive needs next'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog-floor" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog-floor" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog-floor" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog-floor" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog-floor" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand binlog-floor" -s h -l help -d 'Print help'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand last-lsn" -l config -d 'Settings [default: config.toml in the store]' -r -F
complete -c xb-keep -n "__fish_xb_keep_using_subcommand last-lsn" -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand last-lsn" -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-keep -n "__fish_xb_keep_using_subcommand last-lsn" -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand last-lsn" -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-keep -n "__fish_xb_keep_using_subcommand last-lsn" -s h -l help -d 'Print help'
