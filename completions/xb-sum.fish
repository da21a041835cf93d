complete -c xb-sum -s a -l algorithm -d 'Sum by this algorithm; may be given several times [default: sha1, with -c those of its file]' -r -f -a "sha1\t'As sha1sum'
sha256\t'As sha256sum'
sha512\t'As sha512sum'
blake3\t'As b3sum'
crc32\t'As crc32 and gzip: against accidents only'
md5\t'As md5sum: against accidents only'
xxh3\t'As xxhsum -H3, 64 bits: against accidents only'"
complete -c xb-sum -s o -l output -d 'Write the sums to FILE, which is complete and on disk before stdout is closed [default: to stderr]' -r -F
complete -c xb-sum -l members -d 'Sum each member: lines of sum, size and name; also: beside the stream, only: in its place' -r -f -a "also\t''
only\t''"
complete -c xb-sum -s c -l check -d 'Fail with 3 unless the sums are those in FILE' -r -F
complete -c xb-sum -l compare -d 'Compare two files of sums, read nothing else' -r -F
complete -c xb-sum -l memory -d 'Most memory for names and open members; more is needed in all' -r
complete -c xb-sum -l hole-limit -d 'Most zeros that the holes of a stream become, beside 128 for each byte of its content' -r
complete -c xb-sum -l progress -d 'Show how far it is on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-sum -l log -d 'How messages are written on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-sum -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-sum -l allow-empty -d 'Take an empty input as good'
complete -c xb-sum -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-sum -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-sum -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xb-sum -s V -l version -d 'Print version'
