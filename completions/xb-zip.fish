complete -c xb-zip -s a -l algorithm -d 'Compress to this format' -r -f -a "zstd\t''
lz4\t''"
complete -c xb-zip -l chunk-size -d 'Most bytes of content in a frame, 4k to 1m' -r
complete -c xb-zip -s j -l threads -l parallel -d 'Work in N threads [default: number of processors]' -r
complete -c xb-zip -l memory -d 'Most memory for names and open members; more is needed in all' -r
complete -c xb-zip -l hole-limit -d 'Most zeros that the holes of a stream become, beside 128 for each byte of its content' -r
complete -c xb-zip -l progress -d 'Show how far it is on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-zip -l log -d 'How messages are written on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-zip -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-zip -s d -l decompress -d 'Decompress zstd, lz4 and qpress, each member as its first bytes say'
complete -c xb-zip -l raw -d 'Compress or decompress the whole input as one piece; it need not be a stream'
complete -c xb-zip -l allow-empty -d 'Take an input without a single byte for a stream without members'
complete -c xb-zip -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-zip -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-zip -s h -l help -d 'Print help'
complete -c xb-zip -s V -l version -d 'Print version'
