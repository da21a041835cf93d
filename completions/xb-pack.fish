complete -c xb-pack -s C -l directory -d 'Change to DIR first: names are relative to it' -r -F
complete -c xb-pack -s T -l files-from -d 'Also pack the files named in FILE, one per line; - is stdin' -r -F
complete -c xb-pack -l exclude -d 'Leave out files that match; a pattern without a slash also matches a last component' -r
complete -c xb-pack -s j -l threads -l parallel -d 'Read N files at the same time [default: number of processors, at most 4]' -r
complete -c xb-pack -l buffer-size -d 'Size of reads and of chunks, 4k to 1m' -r
complete -c xb-pack -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-pack -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-pack -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-pack -s 0 -l null -d 'Names in FILE end with a NUL byte, not a newline'
complete -c xb-pack -l no-manifest -d 'Write neither xb_begin nor xb_manifest'
complete -c xb-pack -s c -l create -d 'As mbstream -c; has no effect'
complete -c xb-pack -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-pack -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-pack -s h -l help -d 'Print help'
complete -c xb-pack -s V -l version -d 'Print version'
