complete -c xb-zip -s a -l algorithm -d 'Compress to this format' -r -f -a "zstd\t''
lz4\t''"
complete -c xb-zip -l chunk-size -d 'Put at most SIZE of content into a frame, 4k to 1m' -r
complete -c xb-zip -s j -l threads -l parallel -d 'Use N threads [default: number of processors]' -r
complete -c xb-zip -l memory -d 'Use at most SIZE of memory for names and open members; the program needs more in total' -r
complete -c xb-zip -l hole-limit -d 'Let holes in a stream become at most SIZE of zeros, in addition to 128 for each byte of content' -r
complete -c xb-zip -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-zip -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-zip -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-zip -s d -l decompress -d 'Decompress zstd, lz4 and qpress; the first bytes of each member tell its format'
complete -c xb-zip -l raw -d 'Compress or decompress the whole input, which need not be a stream'
complete -c xb-zip -l allow-empty -d 'Accept an empty input as a stream without members'
complete -c xb-zip -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-zip -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-zip -s h -l help -d 'Print help'
complete -c xb-zip -s V -l version -d 'Print version'
