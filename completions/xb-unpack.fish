complete -c xb-unpack -s C -l directory -d 'Write into DIR; it is created if missing, and must be empty' -r -F
complete -c xb-unpack -l sparse -d 'Turn blocks of zeros into holes' -r -f -a "auto\t''
never\t''"
complete -c xb-unpack -s j -l threads -l parallel -d 'Use N threads [default: number of processors, at most 4]' -r
complete -c xb-unpack -l buffer-size -d 'Size of writes, 64k to 4m' -r
complete -c xb-unpack -l memory -d 'Use at most SIZE of memory for names and open members; the program needs more in total' -r
complete -c xb-unpack -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-unpack -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-unpack -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-unpack -l overwrite -d 'Allow a DIR that is not empty, and replace files in it'
complete -c xb-unpack -l keep-existing -d 'Allow a DIR that is not empty, keep its files, and fail if the stream has a file of the same name'
complete -c xb-unpack -l no-sync -d 'Do not wait until everything is synced to disk'
complete -c xb-unpack -s t -l list -d 'List the members; write nothing'
complete -c xb-unpack -l json -d 'List as JSON, one object per line'
complete -c xb-unpack -l verify -d 'Verify structure, checksums and manifest; write nothing'
complete -c xb-unpack -l pages -d 'Also verify every page of InnoDB tablespaces'
complete -c xb-unpack -l allow-empty -d 'Accept an empty input as a stream without members'
complete -c xb-unpack -s x -l extract -d 'As mbstream -x; has no effect'
complete -c xb-unpack -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-unpack -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-unpack -s h -l help -d 'Print help'
complete -c xb-unpack -s V -l version -d 'Print version'
