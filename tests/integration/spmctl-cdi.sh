#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What others read of slices: Container Device Interface files, kept current, and PersistentVolumes of Kubernetes. Both are held
# against the rules of their schemas.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

command -v jq >/dev/null || skip_all "no jq here"

cp -a /etc "$SPM_TMP/etc" && rm -rf "$SPM_TMP/etc/cdi" || exit 1
ok "an /etc of its own" mount --bind "$SPM_TMP/etc" /etc
at_exit umount /etc

# The rules of the CDI specification 0.5.0 (SPEC.md, schema.json): no key but the known ones, a semantic version, a qualified
# kind, at least one device, names that begin and end with a letter or a digit, edits that edit.
cat >"$SPM_TMP/cdi.jq" <<'END'
def only($known): (keys - $known) as $more | if $more == [] then . else error("keys \($more)") end;
def must($what; f): if f then . else error($what) end;
def text: type == "string" and length > 0;
only(["cdiVersion", "kind", "devices", "containerEdits"])
| must("version"; .cdiVersion | test("^[0-9]+\\.[0-9]+\\.[0-9]+$"))
| must("kind"; .kind | test("^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$"))
| must("devices"; .devices | type == "array" and length > 0)
| must("names are used once"; [.devices[].name] | length == (unique | length))
| .devices |= map(
	only(["name", "containerEdits"])
	| must("name"; .name | test("^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$"))
	| .containerEdits |= (
		only(["env", "deviceNodes", "hooks", "mounts"])
		| must("env"; .env | type == "array" and all(test("^[A-Za-z_][A-Za-z0-9_]*=")))
		| must("mounts"; .mounts | type == "array" and length > 0)
		| .mounts |= map(
			only(["hostPath", "containerPath", "options", "type"])
			| must("paths"; (.hostPath | text and startswith("/")) and (.containerPath | text and startswith("/")))
			| must("options"; .options | type == "array" and all(text)))))
END

# valid FILE: it is a CDI file; prints its devices
valid()
{
	jq -e -f "$SPM_TMP/cdi.jq" "$1" >"$SPM_TMP/checked" && jq -r '[.devices[].name] | join(" ")' "$SPM_TMP/checked"
}

# ---- the checker can fail ----

good='{"cdiVersion":"0.5.0","kind":"spmfs.io/slice","devices":[{"name":"a","containerEdits":{"env":["A=b"],"mounts":
	[{"hostPath":"/a","containerPath":"/b","options":["bind"]}]}}]}'
ok "the checker takes what is right" valid <(echo "$good")
for change in '.devices = []' '.devices[0].name = "_a"' '.kind = "slice"' '.more = 1' 'del(.cdiVersion)' \
	'.devices[0].containerEdits.mounts[0].hostPath = "a"' '.devices[0].containerEdits.env = ["=x"]' '.devices += .devices'; do
	fails "and refuses: $change" valid <(jq "$change" <<<"$good")
done

# ---- the file ----

spm_need_mount mem:64M name=cdi
mnt=$MNT
file=/etc/cdi/spmfs-cdi.json
fails "without slices there are no devices" "$SPMCTL" cdi --output - "$mnt"
ok "which is no error for the file" "$SPMCTL" cdi "$mnt"
ok "there is just none" test ! -e "$file"
for s in a B.2 c_d; do
	"$SPMCTL" slice create "$s" "$mnt" >/dev/null || fail "slice $s"
done
ok "no file is made by itself" test ! -e "$file"
is "cdi: says which file" "$("$SPMCTL" cdi "$mnt")" "$file"
is "it is valid, a device for each slice" "$(valid "$file" | xargs -n 1 | sort | xargs)" "B.2 a c_d"
is "everybody may read it" "$(stat -c %a "$file")" 644
is "what a container gets" "$(jq -c '.devices[] | select(.name == "a") | .containerEdits' "$file")" \
	"{\"env\":[\"SPM_PATH=/spm/a\"],\"mounts\":[{\"hostPath\":\"$mnt/a\",\"containerPath\":\"/spm/a\",\"options\":[\"bind\",\"rw\",\"nosuid\",\"nodev\"]}]}"
is "the kind" "$(jq -r .kind "$file")" spmfs.io/slice
is "--output -: the same" "$("$SPMCTL" cdi --output - "$mnt")" "$(cat "$file")"
is "--output FILE" "$("$SPMCTL" cdi --output "$SPM_TMP/x.json" "$mnt") $(cat "$SPM_TMP/x.json")" "$SPM_TMP/x.json $(cat "$file")"

# ---- kept current ----

ok "create" "$SPMCTL" slice create new "$mnt"
is "adds its device" "$(valid "$file" | xargs -n 1 | sort | xargs)" "B.2 a c_d new"
ok "remove" "$SPMCTL" slice remove B.2 "$mnt"
is "takes it away" "$(valid "$file" | xargs -n 1 | sort | xargs)" "a c_d new"
mkdir -p /var/run/cdi
mv "$file" /var/run/cdi/
ok "in the other directory, too" "$SPMCTL" slice remove new "$mnt"
is "it is that file" "$(valid /var/run/cdi/spmfs-cdi.json | xargs -n 1 | sort | xargs)" "a c_d"
ok "and no other was made" test ! -e "$file"
"$SPMCTL" slice create _x "$mnt" >/dev/null 2>"$SPM_TMP/err"
like "a name that CDI has not" "$(cat "$SPM_TMP/err")" "^spmctl: _x: not in the CDI file: names of devices begin and end with"
is "it is left out" "$(valid /var/run/cdi/spmfs-cdi.json | xargs -n 1 | sort | xargs)" "a c_d"
"$SPMCTL" slice remove _x "$mnt" 2>/dev/null
ok "the last ones" eval '"$SPMCTL" slice remove a "$mnt" && "$SPMCTL" slice remove c_d "$mnt"'
ok "take the file with them" test ! -e /var/run/cdi/spmfs-cdi.json
ok "create --cdi makes one" "$SPMCTL" slice create --cdi a "$mnt"
is "with it" "$(valid "$file")" a
is "nothing else was left there" "$(find /etc/cdi /var/run/cdi/ -type f)" "$file"
spm_mount mem:64M name=second || fail "a second mount"
"$SPMCTL" slice create a "$MNT2" >/dev/null
"$SPMCTL" cdi "$MNT2" >"$SPM_TMP/out" 2>"$SPM_TMP/err"
is "two devices of one name: refused" "$? $(cat "$SPM_TMP/err")" "1 spmctl: a: $file has a device of that name, too, and container \
runtimes would take neither; rename one of the slices, or write this file elsewhere with --output"
ok "nothing was written" test ! -e /etc/cdi/spmfs-second.json

# ---- Kubernetes ----

# What the API server demands of a local PersistentVolume: fields that must be there, no others, names that are names.
cat >"$SPM_TMP/pv.py" <<'END'
import re, sys, yaml
NAME = re.compile(r'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
LABEL = re.compile(r'([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?')
def need(ok, what):
    if not ok:
        sys.exit('not a PersistentVolume: ' + what)
names = set()
for pv in yaml.safe_load_all(sys.stdin):
    need(set(pv) == {'apiVersion', 'kind', 'metadata', 'spec'}, 'keys')
    need((pv['apiVersion'], pv['kind']) == ('v1', 'PersistentVolume'), 'kind')
    meta, spec = pv['metadata'], pv['spec']
    need(set(meta) == {'name', 'labels', 'annotations'}, 'metadata')
    need(NAME.fullmatch(meta['name']) and len(meta['name']) <= 253 and meta['name'] not in names, 'name ' + meta['name'])
    names.add(meta['name'])
    need(all(isinstance(v, str) and LABEL.fullmatch(v) for v in meta['labels'].values()), 'labels')
    need(all(isinstance(v, str) for v in meta['annotations'].values()), 'annotations')
    need(set(spec) == {'capacity', 'volumeMode', 'accessModes', 'persistentVolumeReclaimPolicy', 'storageClassName', 'local',
                       'nodeAffinity'}, 'spec')
    need(set(spec['capacity']) == {'storage'} and re.fullmatch(r'[1-9][0-9]*', spec['capacity']['storage']), 'capacity')
    need(spec['volumeMode'] == 'Filesystem' and spec['accessModes'] == ['ReadWriteOnce'], 'modes')
    need(spec['persistentVolumeReclaimPolicy'] == 'Retain' and NAME.fullmatch(spec['storageClassName']), 'class')
    need(set(spec['local']) == {'path'} and spec['local']['path'].startswith('/'), 'local')
    terms = spec['nodeAffinity']['required']['nodeSelectorTerms']
    need(len(terms) == 1 and list(terms[0]) == ['matchExpressions'] and len(terms[0]['matchExpressions']) == 1, 'affinity')
    expr = terms[0]['matchExpressions'][0]
    need(set(expr) == {'key', 'operator', 'values'} and expr['key'] == 'kubernetes.io/hostname' and expr['operator'] == 'In' and
         len(expr['values']) == 1 and isinstance(expr['values'][0], str), 'expression')
    print(meta['name'], spec['capacity']['storage'], spec['local']['path'], expr['values'][0], meta['annotations']['spmfs.io/slice'])
END
if ! python3 -c 'import yaml' 2>/dev/null; then
	skip "PersistentVolumes" "no python3-yaml here"
	spm_done
	exit
fi
pvs()
{
	"$SPMCTL" slice list --output k8s-pv "$@" | python3 "$SPM_TMP/pv.py"
}
fails "the checker refuses what is none" eval 'sed s/Retain/Keep/ <("$SPMCTL" slice list --output k8s-pv "$mnt") | python3 "$SPM_TMP/pv.py"'
is "a volume: name, capacity, path, node, slice" "$(pvs --node n1 "$mnt")" "spmfs-n1-cdi-a $((64 << 20)) $mnt/a n1 a"
"$SPMCTL" slice set a --max 16M "$mnt"
is "its capacity is the max" "$(pvs --node n1.example "$mnt")" "spmfs-n1.example-cdi-a $((16 << 20)) $mnt/a n1.example a"
is "the node is this machine" "$(pvs "$mnt" | cut -d' ' -f4)" "$(uname -n | tr '[:upper:]' '[:lower:]')"
for s in A _a_ a-b a.. 12 no; do
	"$SPMCTL" slice create "$s" "$mnt" >/dev/null 2>&1 || fail "slice $s"
done
is "any name of a slice has a name there" "$(pvs "$mnt" | awk '{ print $5 }' | sort | xargs)" \
	"$(printf '%s\n' a A _a_ a-b a.. 12 no | sort | xargs)"
is "all mounts together" "$(pvs 2>/dev/null | grep -cF " $SPM_TMP/")" 8
"$SPMCTL" slice remove a "$MNT2"
is "no slices, no volumes" "$("$SPMCTL" slice list --output k8s-pv "$MNT2")" ""

spm_umount "$MNT2"

# ---- at mount ----

spm_umount "$mnt"
printf '[slice declared]\nmax = 16M\n[slice other]\n' >"$SPM_TMP/cdi.conf"
ok "a mount with slices of its own" "$SPMFS" mem:64M "$mnt" -o "name=cdi,conf=$SPM_TMP/cdi.conf"
is "brings the file up to date" "$(valid "$file" | xargs -n 1 | sort | xargs)" "declared other"
rm "$file"
ok "which none that is not there" eval 'umount "$mnt" && wait_until 10 spm_no_servers &&
	"$SPMFS" mem:64M "$mnt" -o "name=cdi,conf=$SPM_TMP/cdi.conf"'
ok "needs" test ! -e "$file"
ok "--refresh alone neither" "$SPMCTL" cdi --refresh "$mnt"
ok "so it makes none" test ! -e "$file"
"$SPMCTL" cdi --refresh --output - "$mnt" >"$SPM_TMP/out" 2>"$SPM_TMP/err"
is "--refresh is for no other file" "$?" 2
"$SPMCTL" cdi "$mnt" >/dev/null

# ---- the schema that the specification publishes ----

# Where Debian's package has it; CI unpacks that (SPM_CDI_SCHEMA).
schema=${SPM_CDI_SCHEMA:-/usr/share/gocode/src/github.com/container-orchestrated-devices/container-device-interface/schema}
cat >"$SPM_TMP/schema.py" <<'END'
import json, sys, jsonschema
base, file = sys.argv[1:]
schema = json.load(open(base + '/schema.json'))
resolver = jsonschema.RefResolver('file://' + base + '/', schema)
jsonschema.Draft7Validator(schema, resolver=resolver).validate(json.load(open(file)))
END
if [ ! -f "$schema/schema.json" ]; then
	skip "the published schema" "no schema.json of CDI here (golang-github-container-orchestrated-devices-container-device-interface-dev)"
elif ! python3 -c 'import jsonschema' 2>/dev/null; then
	skip "the published schema" "no python3-jsonschema here"
else
	ok "the published schema takes the file" python3 "$SPM_TMP/schema.py" "$schema" "$file"
	jq 'del(.devices[0].name)' "$file" >"$SPM_TMP/bad.json"
	fails "and not one that is wrong" python3 "$SPM_TMP/schema.py" "$schema" "$SPM_TMP/bad.json"
fi

spm_done
