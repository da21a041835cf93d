complete -c xb-crypt -s k -l key-file -d 'The key is in FILE, which only its owner can read' -r -F
complete -c xb-crypt -l key-fd -d 'The key is read from the open descriptor N' -r
complete -c xb-crypt -l format -d 'How to encrypt: authenticated, or as Percona\'s programs do' -r -f -a "seal\t''
xbcrypt\t''"
complete -c xb-crypt -s a -l algorithm -d 'The cipher of seal' -r -f -a "aes-256-gcm\t''
chacha20-poly1305\t''"
complete -c xb-crypt -l name -d 'The data was taken out of a stream, where NAME was its plain name' -r
complete -c xb-crypt -s j -l threads -d 'Work in N threads [default: number of processors, at most 4]' -r
complete -c xb-crypt -l buffer-size -d 'Largest chunk of xbcrypt data that is taken, at most 2g' -r
complete -c xb-crypt -l generate-key -d 'Make a new key in FILE, which must not exist' -r -F
complete -c xb-crypt -l memory -d 'Most memory for names and open members; more is needed in all' -r
complete -c xb-crypt -l hole-limit -d 'Most zeros that the holes of a stream become, beside 128 for each byte of its content' -r
complete -c xb-crypt -l progress -d 'Show how far it is on stderr; auto: only on a terminal' -r -f -a "auto\t''
always\t''
never\t''
json\t''"
complete -c xb-crypt -l log -d 'How messages are written on stderr' -r -f -a "text\t''
json\t''"
complete -c xb-crypt -l generate -d 'Print the man page or a shell\'s completions' -r -f -a "man\t''
bash\t''
zsh\t''
fish\t''"
complete -c xb-crypt -s d -l decrypt -d 'Decrypt the members, in whatever format each is'
complete -c xb-crypt -l raw -d 'Standard input is one piece of data, not a stream with members'
complete -c xb-crypt -l allow-plain -d 'Let members pass that are not encrypted; anybody could have put them into the stream'
complete -c xb-crypt -l allow-empty -d 'Take an input without a single byte for a stream without members'
complete -c xb-crypt -s v -l verbose -d 'Say more: each file as it is done'
complete -c xb-crypt -s q -l quiet -d 'Say nothing but warnings and errors'
complete -c xb-crypt -s h -l help -d 'Print help'
complete -c xb-crypt -s V -l version -d 'Print version'
