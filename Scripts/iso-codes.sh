#!/usr/bin/env bash
# Prints SQL that fills a database with the countries, their subdivisions and the languages of the world, from Debian's
# iso-codes package. The JSON is not parsed here: it goes into the SQL as text, and SQLite reads it.
#
# usage: Scripts/iso-codes.sh [DIRECTORY]
set -euo pipefail

directory=${1:-/usr/share/iso-codes/json}

# Each statement is one line with at most so many records: a request line may have 1 MiB.
records=1000

# insert FILE TABLE KEY…: one INSERT for every $records objects of the array in FILE.
insert() {
  local file=$directory/$1 table=$2
  shift 2
  [ -r "$file" ] || { echo "iso-codes.sh: $file is missing: install the package iso-codes" >&2; exit 66; }
  local values=""
  for key in "$@"; do values+=${values:+, }"json_extract(value, '\$.$key')"; done
  # The files hold one object that holds one array, an object a line block: "    {" begins it, "    }" ends it.
  awk -v head="INSERT INTO $table SELECT $values FROM json_each('[" -v records="$records" '
    function flush() { if (count) print head text "]\x27);"; text = ""; count = 0 }
    { gsub(/\x27/, "\x27\x27") }
    /^    \{$/ { inside = 1; text = text (count++ ? "," : "") "{"; next }
    /^    \},?$/ { inside = 0; text = text "}"; if (count == records) flush(); next }
    inside { sub(/^ +/, ""); text = text $0 }
    END { flush() }
  ' "$file"
}

cat <<'SQL'
CREATE TABLE country(alpha_2 TEXT PRIMARY KEY, alpha_3 TEXT NOT NULL, name TEXT NOT NULL, official_name TEXT, flag TEXT);
CREATE TABLE subdivision(code TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, country TEXT AS (substr(code, 1, 2)) STORED REFERENCES country);
CREATE TABLE language(alpha_3 TEXT PRIMARY KEY, alpha_2 TEXT, name TEXT NOT NULL, type TEXT NOT NULL);
SQL
insert iso_3166-1.json country alpha_2 alpha_3 name official_name flag
insert iso_3166-2.json subdivision code name type
insert iso_639-3.json language alpha_3 alpha_2 name type
cat <<'SQL'
CREATE INDEX subdivision_country ON subdivision(country);
CREATE INDEX language_name ON language(name);
SQL
