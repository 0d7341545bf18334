#compdef dlcli
# Completion of dlcli for zsh: a file _dlcli in a folder of $fpath, or: eval "$(dlcli completion zsh)"
_dlcli() {
    local -a found unfinished finished
    found=("${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT - 1]}" "$PREFIX" 2>/dev/null)}")
    unfinished=(${(M)found:#*[=./]})
    finished=(${found:#*[=./]})
    (( $#unfinished )) && compadd -Q -S '' -- $unfinished
    (( $#finished )) && compadd -Q -- $finished
    (( $#unfinished + $#finished )) || _files
}
if [ "$funcstack[1]" = "_dlcli" ]; then
    _dlcli "$@"
else
    compdef _dlcli dlcli
fi
