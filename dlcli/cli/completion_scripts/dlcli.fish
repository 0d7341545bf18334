# Completion of dlcli for fish: dlcli completion fish > ~/.config/fish/completions/dlcli.fish
function __dlcli_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($words[1] --complete $words[2..-1] "$current" 2>/dev/null)
    if test -n "$found"
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c dlcli -f -a '(__dlcli_complete)'
