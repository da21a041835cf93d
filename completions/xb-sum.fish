complete -c xb-sum -s a -l algorithm -d 'Use this algorithm; may be repeated [default: sha1; with -c, that of its file]' -r -f -a "sha1\t'As sha1sum'
sha256\t'As sha256sum'
sha512\t'As sha512sum'
blake3\t'As b3sum'
crc32\t'As crc32 and gzip: against accidents only'
md5\t'As md5sum: against accidents only'
xxh3\t'As xxhsum -H3, 64 bits: against accidents only'"
complete -c xb-sum -s o -l output -d 'Write the sums to FILE, which is complete and synced to disk before stdout is closed [default: to stderr]' -r -F
complete -c xb-sum -l members -d 'Sum each member: lines with sum, size and name; also: in addition to the stream, only: instead of it' -r -f -a "also\t''
only\t''"
complete -c xb-sum -s c -l check -d 'Exit with status 3 unless the sums are those in FILE' -r -F
complete -c xb-sum -l compare -d 'Compare two files of sums, and read nothing else' -r -F
complete -c xb-sum -l memory -d 'Use at most SIZE of memory for names and open members; the program needs more in total' -r
complete -c xb-sum -l hole-limit -d 'Let holes in a stream become at most SIZE of zeros, in addition to 128 for each byte of content' -r
complete -c xb-sum -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-sum -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-sum -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-sum -l allow-empty -d 'Accept an empty input'
complete -c xb-sum -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-sum -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-sum -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xb-sum -s V -l version -d 'Print version'
