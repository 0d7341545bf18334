# Completion of dlcli for bash: eval "$(dlcli completion bash)"
_dlcli() {
    # bash splits words at "=" and ":"; the line up to the cursor, split at spaces, has them whole.
    local line=${COMP_LINE:0:COMP_POINT} breaks= prefix= candidate
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[${#words[@]} - 1]}
    # bash replaces only what follows the last separator, so that is all that it may be given.
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ -n $breaks ]] && prefix=${current%"${current##*[$breaks]}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n $candidate ]] || continue
        [[ $candidate == *[=./] ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("${candidate#"$prefix"}")
    done < <("${words[0]}" --complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _dlcli dlcli
