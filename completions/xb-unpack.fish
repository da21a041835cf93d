complete -c xb-unpack -s C -l directory -d 'Write into DIR; it is created if missing, and must be empty' -r -F
complete -c xb-unpack -l sparse -d 'Whether blocks of zeros become holes' -r -f -a "auto\t''
never\t''"
complete -c xb-unpack -s j -l threads -l parallel -d 'Sum and write in N threads [default: number of processors, at most 4]' -r
complete -c xb-unpack -l buffer-size -d 'Bytes written at once, 64k to 4m' -r
complete -c xb-unpack -l memory -d 'Most memory for names and open members; more is needed in all' -r
complete -c xb-unpack -l progress -d 'Show how far it is on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-unpack -l log -d 'How messages are written on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-unpack -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-unpack -l overwrite -d 'DIR need not be empty; files in it are replaced'
complete -c xb-unpack -l keep-existing -d 'DIR need not be empty; files in it are kept, and none of the stream may be among them'
complete -c xb-unpack -l no-sync -d 'Do not wait until everything is on disk'
complete -c xb-unpack -s t -l list -d 'List the members, write nothing'
complete -c xb-unpack -l json -d 'List as JSON, one object a line'
complete -c xb-unpack -l verify -d 'Check structure, sums and manifest, write nothing'
complete -c xb-unpack -l pages -d 'Check every page of InnoDB\'s tablespaces, too'
complete -c xb-unpack -l allow-empty -d 'Take an input without a single byte for a stream without members'
complete -c xb-unpack -s x -l extract -d 'What mbstream is told to unpack'
complete -c xb-unpack -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-unpack -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-unpack -s h -l help -d 'Print help'
complete -c xb-unpack -s V -l version -d 'Print version'
