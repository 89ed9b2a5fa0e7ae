#!/usr/bin/env bash
# zensical 0.0.73: `zensical build --strict` passes pictures and files that do not exist.
#
# Expected: the check of links that is on by default fails a page whose picture or download is missing, as
# `mkdocs build --strict` does.
# Observed: a link to a page that does not exist fails, one to an anchor too. A picture, a notebook, and a folder that do
# not exist are built as they stand: "No issues found", exit code 0.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zensical==0.0.73 mkdocs==1.6.1
mkdir "$folder/docs"
printf 'site_name: one page\nvalidation: {links: {anchors: warn, unrecognized_links: warn}}\n' > "$folder/mkdocs.yml"
printf 'site_name: one page\n' > "$folder/zensical.yml"
cd "$folder"
found=""
for link in 'link](nowhere.md)' 'link](#nowhere)' 'picture](nowhere.png)' 'link](nowhere.ipynb)' 'link](nowhere/)'; do
    mark='['
    [[ $link == picture* ]] && mark='!['
    printf '# A page\n\n%s%s\n' "$mark" "$link" > docs/index.md
    codes=""
    for builder in mkdocs zensical; do
        code=0
        venv/bin/$builder build --strict --clean -f $builder.yml > out 2>&1 || code=$?
        codes="$codes $code"
    done
    echo "$mark$link: exit codes of mkdocs and zensical:$codes"
    found="$found$codes,"
done
[ "$found" = " 1 1, 1 1, 1 0, 1 0, 1 0," ] || { echo "the behaviour has changed: $found" >&2; exit 1; }
