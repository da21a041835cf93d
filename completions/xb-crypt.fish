complete -c xb-crypt -s k -l key-file -d 'Read the key from FILE, which only its owner may read' -r -F
complete -c xb-crypt -l key-fd -d 'Read the key from the open descriptor N' -r
complete -c xb-crypt -l format -d 'Encrypt in this format: authenticated, or as Percona\'s programs do' -r -f -a "seal\t''
xbcrypt\t''"
complete -c xb-crypt -s a -l algorithm -d 'Cipher of the seal format' -r -f -a "aes-256-gcm\t''
chacha20-poly1305\t''"
complete -c xb-crypt -l name -d 'Plain name that the data had in the stream from which it was taken' -r
complete -c xb-crypt -s j -l threads -l parallel -d 'Use N threads [default: number of processors, at most 4]' -r
complete -c xb-crypt -l buffer-size -d 'Accept xbcrypt chunks of up to SIZE, at most 2g' -r
complete -c xb-crypt -l generate-key -d 'Create a new key in FILE, which must not exist' -r -F
complete -c xb-crypt -l memory -d 'Use at most SIZE of memory for names and open members; the program needs more in total' -r
complete -c xb-crypt -l hole-limit -d 'Let holes in a stream become at most SIZE of zeros, in addition to 128 for each byte of content' -r
complete -c xb-crypt -l progress -d 'Show progress on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-crypt -l log -d 'Format of messages on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-crypt -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-crypt -s d -l decrypt -d 'Decrypt the members, whatever the format of each'
complete -c xb-crypt -l allow-readable-key -d 'Accept a key file that other users can read, but not change, such as a mounted Kubernetes secret'
complete -c xb-crypt -l raw -d 'Encrypt or decrypt the whole input, which need not be a stream'
complete -c xb-crypt -l allow-plain -d 'Pass on members that are not encrypted; an attacker could have put them into the stream'
complete -c xb-crypt -l allow-empty -d 'Accept an empty input as a stream without members'
complete -c xb-crypt -s v -l verbose -d 'Print more: each file when it is done'
complete -c xb-crypt -s q -l quiet -d 'Print only warnings and errors'
complete -c xb-crypt -s h -l help -d 'Print help'
complete -c xb-crypt -s V -l version -d 'Print version'
