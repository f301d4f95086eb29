#!/usr/bin/env bash
# Unpack Debian packages of another architecture below a directory, without this machine's apt
# hearing of that architecture: the lists, the settings and the state are of an apt root of its own,
# the sources and keys are the machine's.
#
#   cross/foreign.sh ARCHITECTURE DIRECTORY PACKAGE[=VERSION]...
set -euo pipefail
[[ $# -ge 3 ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
architecture=$1 directory=$2
shift 2
stamp=$directory/.packages-$architecture
wanted="$*"
[[ -e $stamp && $(< "$stamp") == "$wanted" ]] && exit

command -v apt-get >/dev/null || {
    echo "there is no apt-get here to fetch $wanted ($architecture) with" >&2
    exit 1
}
mkdir -p "$directory"
root=$(cd "$directory" && pwd)/.apt-$architecture
rm -rf "$root"
mkdir -p "$root"/{state,lists/partial,cache/archives/partial,sources,packages}
: > "$root/state/status"

# The distribution's own sources: others often serve one architecture only.
own_sources() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -e $file ]] && grep -iE '^deb .*(debian|raspbian)' "$file" || true
    done > "$root/sources/own.list"
    # What is restricted to this machine's architecture is meant for the other one as well.
    sed -i -E 's/\[([^]]*)arch=[^] ]*/[\1/; s/\[ *\]//' "$root/sources/own.list"
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -e $file ]] || continue
        # A stanza is a paragraph.
        awk 'BEGIN { RS = ""; ORS = "\n\n" } tolower($0) ~ /uris:[^\n]*(debian|raspbian)/' "$file" |
            grep -viE '^(architectures:|#)' || true
    done > "$root/sources/own.sources"
}
own_sources

cat > "$root/apt.conf" <<CONF
Dir::State "$root/state";
Dir::State::lists "$root/lists";
Dir::State::status "$root/state/status";
Dir::Cache "$root/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$root/sources";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
export APT_CONFIG=$root/apt.conf

echo "fetching for $architecture: $wanted" >&2
log=$root/log
# Not the end if one of several sources does not answer: what counts is whether the packages come.
apt-get update -q > "$log" 2>&1 || true
(cd "$root/packages" && apt-get download -q "$@") >> "$log" 2>&1 || {
    cat "$log" >&2
    echo "these packages could not be fetched for $architecture: $wanted" >&2
    exit 1
}
for package in "$root"/packages/*.deb; do
    dpkg-deb -x "$package" "$directory"
done
rm -rf "$root"
# Last: its presence says that all the rest is there.
echo "$wanted" > "$stamp"
