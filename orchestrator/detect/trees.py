"""A built tree's digest, computed on its host by findutils and coreutils alone.

The digest is the one that the role ``artefacts`` writes into the tree's marker when it is built: the sha256 of a line
for each entry, ``KIND MODE PATH NUL TAIL``, sorted by path, where the tail is a link's target or a file's sha256. The
marker's second line is the look: the same lines with each file's size and time of change instead of its sha256.
"""

from __future__ import annotations

MARKER = ".agentrig-complete"
#: Trees of more bytes than this are believed by their look, unless a thorough reading is asked for.
LARGE = 1 << 30

#: Shell functions. A line is carried as ``PATH 01 KIND MODE PATH 02 TAIL NUL`` until it is sorted by its path.
FUNCTIONS = f"""
listed() {{ find . -mindepth 1 ! -path ./{MARKER} "$@"; }}
digested() {{ sort -z -t "$(printf '\\001')" -k1,1 | cut -z -d "$(printf '\\001')" -f2 | tr '\\002\\000' '\\000\\n' |
sha256sum | cut -c1-64; }}
plain() {{ listed -type l -printf '%P\\001l 0777 %P\\002%l\\0' -o -type d -printf '%P\\001d %04m %P\\002\\0'; }}
tree_look() {{ {{ plain
listed ! -type d ! -type l -printf '%P\\001f %04m %P\\002%s %T@\\0' |
sed -z 's/\\.\\([0-9]\\{{9\\}}\\)[0-9]*$/\\1/; s/ 0*\\([0-9][0-9]*\\)$/ \\1/'; }} |
digested; }}
tree_digest() {{ {{ plain
listed ! -type d ! -type l -printf '%P\\001f %04m %P\\002\\0' | sort -z -t "$(printf '\\001')" -k1,1 |
{{ listed ! -type d ! -type l -printf '%P\\0' | sort -z | xargs -0r sha256sum -bz -- | cut -z -c1-64 |
paste -z -d '\\0' /dev/fd/3 -; }} 3<&0; }} | digested; }}
tree() {{ ( cd "$1" && {{ read -r kept; read -r look; }} <{MARKER} || exit 0
size=$(listed -type f -printf '%s\\n' | awk '{{ sum += $1 }} END {{ printf "%.0f", sum }}')
if [ "$2" = no ] && [ "$size" -gt {LARGE} ] && [ "$(tree_look)" = "$look" ]; then digest=$kept
else digest=$(tree_digest); fi
printf '%s %s\\n' "$digest" "$1" ) }}
"""
