#!/bin/sh
# consul-recovery-host: everything that the recovery bot reads on or changes at a Consul server's host.
#
# One file, two ways in:
#   streamed   sudo -n /bin/sh -s                               arguments, payload and this text come on stdin
#   installed  sudo -n /usr/local/sbin/consul-recovery-host ... arguments in argv, payload on stdin. The first one is
#              the checksum of the bot's own copy: a bot and a host.sh of different versions misunderstand each other.
# A secret is never an argument: it comes on stdin and goes on in a child's environment.
# All work is in functions and the last line calls them, so a stream that is cut off does nothing at all.
#
# The data directory is found here, from the unit and its configuration, never taken from the caller:
# whoever may only call this script must not be able to point it at other directories.
#
# Answers are lines of `name value`; texts of more than one line are base64. Exit status:
#   64 wrong call   65 a precondition does not hold   66 an older epoch   67 another owner of this epoch
#   68 another call holds the lock   69 too little space   (64 to 69: nothing was changed)
#   70 it was begun and its end was not seen   71 it was tried, it did not work, and the host is as it was before

set -u
umask 077
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

STATE=/var/lib/consul-recovery
HOLD_DROP_IN=zz-consul-recovery-hold.conf
START_UNIT=consul-recovery-start.service
FENCE_DROP_IN=zz-consul-recovery-fence.conf
STOP_DROP_IN=zz-consul-recovery-stop.conf
OVERRIDE_FILE=zz-consul-recovery.json
OVERRIDE_DROP_IN=zz-consul-recovery-expect.conf
NEWLINE='
'

# Once a verb has begun to change something, no exit may say that nothing was changed.
begun=
stop_dir=
version=

die() {
    code=$1
    shift
    case $begun$code in yes6[4-9]) code=70 ;; *) ;; esac
    # What changes the meaning of a stop must not outlive the stop that it was made for.
    [ -z "$stop_dir" ] || { rm -f -- "$stop_dir/$STOP_DROP_IN" && systemctl daemon-reload 9>&-; }
    printf '%s\n' "$*" | tr '\n' ' ' >&2
    printf '\n' >&2
    exit "$code"
}

# Builtins where they do, and variables for what functions find: a look is asked for many times in a run, and most
# of its time is starting programs and subshells.
say() {
    case $2 in
        *"$NEWLINE"*) printf '%s %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')" ;;
        *) printf '%s %s\n' "$1" "$2" ;;
    esac
}

say_text() {
    printf '%s ' "$1"
    base64 -w 0
    printf '\n'
}

# --- what systemd knows of the unit -----------------------------------------------------------------------

load_unit() {
    case $UNIT in
        '' | -* | .* | *[!A-Za-z0-9:_.@-]*) die 64 "not a unit name: $UNIT" ;;
        *.service) ;;
        *) UNIT=$UNIT.service ;;
    esac
    read_facts
    case $load_state in
        loaded) ;;
        masked) die 65 "the unit $UNIT is masked: nothing can start it; \`systemctl unmask $UNIT\` on this host, then try again$(agent_elsewhere)" ;;
        not-found | '') die 65 "there is no unit $UNIT on this host$(agent_elsewhere)" ;;
        *) die 65 "systemd cannot load the unit $UNIT ($load_state: ${load_error:-no reason given}); mend its files, then try again" ;;
    esac
    read_agent
    # Whoever may only call this script must not reach other units by it.
    case $agent_pid$exec_start in
        [0-9]* | *consul*agent*) ;;
        *) die 65 "the unit $UNIT does not run a Consul agent${config_problem:+ ($config_problem)}$(agent_elsewhere)" ;;
    esac
    [ -z "$container" ] || [ "$verb" = look ] || die 65 "$config_problem"
}

# Sets what systemd knows of the unit: facts, and of it a variable for each fact that is asked for.
read_facts() {
    facts=$(systemctl show "$UNIT" -p LoadState -p ActiveState -p UnitFileState -p MainPID -p User \
        -p ExecStart -p ExecStartPre -p ExecStartPost -p ExecStop -p ExecStopPost -p KillSignal \
        -p DropInPaths -p EnvironmentFiles -p Environment -p ControlGroup -p NeedDaemonReload \
        -p LoadError -p Job -p FragmentPath -p ConditionResult -p Result -p ExecMainStatus 9>&-) ||
        die 65 "systemctl show $UNIT failed"
    load_state=
    active_state=
    unit_file_state=
    main_pid=0
    unit_user=
    exec_start=
    exec_start_pre=
    exec_start_post=
    exec_stop=
    exec_stop_post=
    kill_signal=
    drop_in_paths=
    control_group=
    need_daemon_reload=
    load_error=
    fragment_path=
    conditions=
    job=
    condition_result=
    result=
    exit_status=
    while IFS= read -r line; do
        value=${line#*=}
        case $line in
            LoadState=*) load_state=$value ;;
            ActiveState=*) active_state=$value ;;
            UnitFileState=*) unit_file_state=$value ;;
            MainPID=*) main_pid=${value:-0} ;;
            User=*) unit_user=$value ;;
            # The first of several.
            ExecStart=*) exec_start=${exec_start:-$value} ;;
            ExecStartPre=*) exec_start_pre=$value ;;
            ExecStartPost=*) exec_start_post=$value ;;
            ExecStop=*) exec_stop=${exec_stop:-$value} ;;
            ExecStopPost=*) exec_stop_post=${exec_stop_post:-$value} ;;
            KillSignal=*) kill_signal=$value ;;
            DropInPaths=*) drop_in_paths=$value ;;
            ControlGroup=*) control_group=$value ;;
            NeedDaemonReload=*) need_daemon_reload=$value ;;
            LoadError=*) load_error=$value ;;
            FragmentPath=*) fragment_path=$value ;;
            Job=*) job=${value#0} ;;
            ConditionResult=*) condition_result=$value ;;
            Result=*) result=$value ;;
            ExecMainStatus=*) exit_status=$value ;;
            *) ;;
        esac
    done <<FACTS
$facts
FACTS
}

# Sets pids: every process of the unit. With KillMode=process some can outlive the main one.
find_pids() {
    set --
    for group in "$control_group" "/system.slice/$UNIT"; do
        case $group in */*.service*) ;; *) continue ;; esac
        for root in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
            [ ! -d "$root$group" ] || set -- "$@" "$root$group"
        done
    done
    pids=
    [ $# -eq 0 ] || pids=$(find "$@" -name cgroup.procs -exec cat {} + 2>/dev/null)
    [ "$main_pid" = 0 ] || pids=$main_pid$NEWLINE$pids
}

# Sets pid: the unit's main process, else another one of it, else an agent's that was started by hand; "" for none.
find_pid() {
    pid=$main_pid
    [ "$pid" = 0 ] || return 0
    find_pids
    pid=${pids%%"$NEWLINE"*}
    [ -n "$pid" ] || pid=$(stranger_pid)
}

# The process outside the unit that has our data: somebody has started an agent by hand, or as another unit. BoltDB
# takes a lock on its file (flock), and the kernel tells whose it is; both stores have such a file. An agent that is
# just starting has none open yet: then its command line tells.
stranger_pid() {
    [ -n "$data_dir" ] || return 0
    for db in "$data_dir/raft/raft.db" "$data_dir/raft/wal/wal-meta.db"; do
        found=$(lock_holder)
        [ -z "$found" ] || { printf '%s\n' "$found" && return; }
    done
    # Its words are separated by NUL; one of them is `agent`.
    for found in $(grep -lsxz -e agent /proc/[0-9]*/cmdline); do
        found=${found#/proc/}
        found=${found%/cmdline}
        [ "$found" != "$$" ] && has_our_data "$found" || continue
        printf '%s\n' "$found"
        return
    done
}

# Whether an agent's command line names our data directory or our configuration, or it has files of ours open.
# Compared as files: what it runs in may have other paths (a container, a link).
has_our_data() {
    named=no
    wanted=
    # Words, whatever files there are that one would match. Whoever asks this has it in a subshell.
    set -f
    for word in $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline"); do
        case $word in
            -data-dir | --data-dir | -config-file | --config-file | -config-dir | --config-dir)
                wanted=${word##*-}
                continue
                ;;
            -data-dir=* | --data-dir=* | -config-file=* | --config-file=* | -config-dir=* | --config-dir=*)
                wanted=${word%%=*}
                wanted=${wanted##*-}
                word=${word#*=}
                ;;
            *) ;;
        esac
        [ -n "$wanted" ] || continue
        wanted=
        case $word in
            /*) word=/proc/$1/root$word ;;
            *) word=/proc/$1/cwd/$word ;;
        esac
        same_file "$word" "$data_dir" && return
        while IFS= read -r ours; do
            [ -z "$ours" ] || ! same_file "$word" "$ours" || { named=yes && break; }
        done <<OURS
$config_dirs
$config_files
OURS
    done
    # Its own flag for the data directory beats what the configuration says.
    [ "$named" = no ] || case $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") in *-data-dir*) ;; *) return 0 ;; esac
    [ -n "$(find "/proc/$1/fd" -lname "$data_dir/*" -print -quit 2>/dev/null)" ]
}

same_file() {
    one=$(stat -L -c '%d %i' "$1" 2>/dev/null) && [ "$one" = "$(stat -L -c '%d %i' "$2" 2>/dev/null)" ]
}

lock_holder() {
    [ -f "$db" ] || return 0
    sed -n "s/^[0-9]*: FLOCK *ADVISORY *WRITE *\([0-9][0-9]*\) [0-9a-f:]*:$(stat -L -c %i "$db") .*/\1/p" /proc/locks |
        while IFS= read -r holder; do
            # The same number may be a file of another file system; by whatever path the process opened it.
            stat -L -c '%d %i' "/proc/$holder/fd/"* 2>/dev/null | grep -qx "$(stat -L -c '%d %i' "$db")" || continue
            printf '%s\n' "$holder"
            break
        done
}

# Sets run_by and running_s: what a process was started by, and how long ago.
find_origin() {
    run_by=
    running_s=0
    each=
    ticks=
    read -r each 2>/dev/null <"/proc/$1/stat" || return 0
    # After the name, which may have spaces and brackets in it: state, parent, ..., start in ticks since the boot.
    # shellcheck disable=SC2086  # its words
    set -- "$1" ${each##*)}
    parent=$3
    ticks=${21}
    read -r up _ </proc/uptime
    # Linux tells these to programs in hundredths of a second everywhere.
    running_s=$((${up%%.*} - ticks / 100))
    [ "$running_s" -ge 0 ] || running_s=0
    while IFS= read -r each; do
        case $each in
            *.service | *.scope) run_by=${each##*/} ;;
            *) ;;
        esac
    done 2>/dev/null <"/proc/$1/cgroup"
    [ "$run_by" != "$UNIT" ] || return 0
    each=
    read -r each 2>/dev/null <"/proc/$parent/comm"
    run_by="${run_by:-no unit}, by process $parent (${each:-gone})"
}

refuse_strangers() {
    find_pids
    [ -z "$pids" ] || return 0
    stranger=$(stranger_pid)
    [ -n "$stranger" ] || return 0
    find_origin "$stranger"
    die 65 "process $stranger, which is none of $UNIT, is an agent on the same data, started by hand or as another unit ($run_by); stop it by hand"
}

# --- what the agent is configured with --------------------------------------------------------------------
# Read as systemd and Consul read it, not searched for: a line like it in a comment, a data_dir in a service's meta
# or a flag in a quoted variable would send peers.json to another folder. What cannot be followed for certain is
# unknown: config_problem says where, data_dir is "", and nothing that hangs on it is done.

# Sets agent_words, those of a process that is a Consul agent, each with a newline after it (a newline in one is byte 1).
words_of_agent() {
    agent_words=$(tr '\n\0' '\001\n' 2>/dev/null <"/proc/$1/cmdline" && printf x) 2>/dev/null || return 1
    agent_words=${agent_words%x}
    second=${agent_words#*"$NEWLINE"}
    first=${agent_words%%"$NEWLINE"*}
    case ${first##*/},${second%%"$NEWLINE"*} in
        *consul*,agent) ;;
        *) return 1 ;;
    esac
}

# Sets agent_pid and agent_words, of the unit's agent; "" where none runs. It may be a child of the main process.
find_agent() {
    find_pids
    for agent_pid in $pids; do
        words_of_agent "$agent_pid" && return
    done
    agent_pid=
    agent_words=
}

# A phrase about an agent that runs here as something else than the unit: of a container, a scheduler, a supervisor.
agent_elsewhere() {
    for each in /proc/[0-9]*; do
        words_of_agent "${each##*/}" || continue
        printf '; process %s is a Consul agent, of %s: name its unit in the settings, or look after it by hand' \
            "${each##*/}" "$(sed -n '$s/^[^:]*:[^:]*://p' "$each/cgroup" 2>/dev/null)"
        return
    done
    # 206C is 8300, 0A is listening.
    if grep -q ':206C [0-9A-F]*:0000 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; then
        printf '; somebody listens on port 8300'
    fi
}

# The unit's path on the bus: systemd escapes a digit in front, and everywhere what is no letter or digit.
unit_bus_path() {
    printf '/org/freedesktop/systemd1/unit/'
    printf '%s' "$UNIT" | sed 's/_/_5f/g; s/\./_2e/g; s/-/_2d/g; s/@/_40/g; s/:/_3a/g; s/^[0-9]/_3&/'
}

# What systemd would start, for the reader. busctl tells where one word ends and the next begins; `systemctl show`
# does not, and is taken where the unit's files leave no doubt.
unit_facts() {
    printf 'source unit\n'
    set -- ExecStart Environment EnvironmentFiles WorkingDirectory RootDirectory UnsetEnvironment PrivateTmp \
        BindPaths BindReadOnlyPaths TemporaryFileSystem ExecStartEx
    bus=$(timeout 5 busctl get-property org.freedesktop.systemd1 "$(unit_bus_path)" \
        org.freedesktop.systemd1.Service "$@" 9>&- 2>/dev/null)
    if [ -n "$bus" ]; then
        while IFS= read -r line; do
            printf '%s %s\n' "$1" "$line"
            shift
        done <<BUS
$bus
BUS
    elif systemctl cat "$UNIT" 9>&- 2>/dev/null | grep -Eq "^[[:space:]]*ExecStart[[:space:]]*=.*[\"'\$%\\\\]|\
^[[:space:]]*(RootDirectory|RootImage|Bind|TemporaryFileSystem|PrivateTmp|WorkingDirectory)"; then
        printf 'unknown systemd does not answer busctl, and without it %s is not plain enough to read\n' "$UNIT"
    else
        printf 'argv %s\n' "${exec_start##*'argv[]='}"
    fi
}

# Sets answers, what the reader makes of these facts. Most configurations mean the same to every version of Consul;
# where one does not, the program is asked for its version.
read_with() {
    answers=$(printf '%s' "$1" | awk "$reader" 2>/dev/null) || answers="config_problem awk failed on this host"
    case $NEWLINE$answers in *"${NEWLINE}era_matters"*) ;; *) return 0 ;; esac
    agent_program=${answers#*"word "}
    agent_program=${agent_program%%"$NEWLINE"*}
    program_version "$agent_program"
    case $version in
        '') era= ;;
        0.[0-6] | 0.[0-6].*) era=0.6 ;;
        0.*) era=0.7 ;;
        *) era=1.0 ;;
    esac
    if [ -n "$era" ]; then
        answers=$(printf 'era %s\n%s' "$era" "$1" | awk "$reader")
    else
        answers="config_problem versions of Consul read it differently, and $agent_program does not tell its version"
    fi
}

# Sets version, of a program; kept beside the epoch, for a program is slow to start.
program_version() {
    version=
    program_stamp=$(stat -L -c %d-%i-%s-%Y-%Z -- "$1" 2>/dev/null) || return 0
    known_stamp=
    [ ! -f "$STATE/version" ] || read -r known_stamp version <"$STATE/version"
    [ "$known_stamp" != "$program_stamp" ] || return 0
    version=$(timeout 5 "$1" version 9>&- 2>/dev/null | sed -n 's/^Consul v\{0,1\}\([0-9][0-9.]*[0-9]\).*/\1/p')
}

# Sets what the reader found: data_dir ("" for unknown, with config_problem), node_name, and so on, and config_files
# and config_dirs in the order in which Consul reads them; last_dir is the last thing read, "" where that is a file.
read_agent() {
    find_agent
    command=${exec_start%%' ; start_time='*}
    started=
    if [ -n "$agent_pid" ]; then
        # As the unit would start it now, where that is not plainly the same.
        argv=${command##*'argv[]='}
        if [ "$(printf '%s' "$agent_words" | tr '\n\001' '  ')" != "${argv%%'; ignore_errors='*}" ]; then
            read_with "$(unit_facts)$NEWLINE"
            case $answers in *"start_problem "?*) ;; *) started=$answers ;; esac
        fi
        read_with "cwd $(readlink "/proc/$agent_pid/cwd")${NEWLINE}words$NEWLINE$agent_words"
    else
        read_with "$(unit_facts)$NEWLINE"
        # A wrapper that cannot be followed. What it had started is known where it was stopped here, by a run, and
        # the unit has not changed since.
        case $answers in
            *"start_problem "?*)
                ran=
                [ ! -f "$STATE/ran" ] || ran=$(cat -- "$STATE/ran")
                case $ran in "$command$NEWLINE"*) read_with "${ran#*"$NEWLINE"}$NEWLINE" ;; *) ;; esac
                ;;
            *) ;;
        esac
    fi
    take_answers
    [ -z "$started" ] || compare_with_the_unit
    [ -z "$agent_pid" ] || compare_with_the_process
    [ -z "$config_problem" ] || data_dir=
}

take_answers() {
    config_problem=
    data_dir=
    node_name=
    configured_id=
    server=
    leave_on_terminate=
    bootstrap=
    bootstrap_expect=
    expect_set_by=
    config_files=
    config_dirs=
    last_dir=
    settings=
    agent_program=
    container=
    while IFS= read -r line; do
        value=${line#* }
        case $line in
            start_problem\ ?*) config_problem=$value ;;
            config_problem\ *) config_problem="its configuration cannot be read: $value" ;;
            data_dir\ *) data_dir=$value ;;
            node_name\ *) node_name=$value ;;
            node_id\ *) configured_id=$value ;;
            server\ *) server=$value ;;
            leave_on_terminate\ *) leave_on_terminate=$value ;;
            bootstrap\ *) bootstrap=$value ;;
            bootstrap_expect\ *) bootstrap_expect=$value ;;
            expect_set_by\ *) expect_set_by=$value ;;
            config_file\ *) config_files=$config_files${config_files:+"$NEWLINE"}$value ;;
            config_dir\ *) config_dirs=$config_dirs$value$NEWLINE ;;
            last_dir\ *) last_dir=$value ;;
            container\ *) container=$value ;;
            word\ *) agent_program=${agent_program:-"$value"} ;;
            *\ *) settings=$settings$line$NEWLINE ;;
            *) ;;
        esac
    done <<ANSWERS
$answers
ANSWERS
}

# Sets value, of a name in answers.
value_in() {
    value=${1#*"$NEWLINE$2 "}
    [ "$value" != "$1" ] || value=
    value=${value%%"$NEWLINE"*}
}

# The agent was started with another command line than the unit has now: a stop and a start would make another of it.
compare_with_the_unit() {
    value_in "$NEWLINE$started" config_problem
    [ -z "$value" ] || config_problem=${config_problem:-"the unit would start it anew, and then its configuration cannot be read: $value"}
    [ -z "$config_problem" ] || return 0
    for setting in data_dir node_name node_id server; do
        value_in "$started" "$setting"
        next=$value
        value_in "$answers" "$setting"
        [ "$next" = "$value" ] ||
            config_problem="process $agent_pid of $UNIT runs with the $setting ${value:-(none)}, and the unit would start it with ${next:-(none)}"
    done
}

# A process can see another disk than this script: that of a container, or mounts of the unit's own.
compare_with_the_process() {
    root=/proc/$agent_pid/root
    if [ ! "$root" -ef / ]; then
        container=yes
        config_problem="process $agent_pid of $UNIT lives on another disk than this host's (a container): the paths in its configuration are not this host's"
    elif [ -d "$data_dir" ] && [ ! "$root$data_dir" -ef "$data_dir" ]; then
        config_problem="process $agent_pid of $UNIT sees another $data_dir than this host has (mounts of the unit's own)"
    fi
}

# Reads what it is given and what that names. No quote of the shell may stand in it: it is one word.
reader='
# One fact a line comes in, `name value`; after `words` one word of the agent a line, a newline in it as byte 1.
plain_words { gsub(/\001/, "\n"); word[++word_count] = $0; next }
$0 == "words" { plain_words = 1; next }
{ at = index($0, " "); fact[substr($0, 1, at - 1)] = substr($0, at + 1) }
END {
    RS = "\001"
    split("data-dir data_dir node node_name node-id node_id client client_addr encrypt encrypt http-port ports.http " \
        "https-port ports.https server server bootstrap bootstrap bootstrap-expect bootstrap_expect", pair, " ")
    for (i = 1; i in pair; i += 2) flag_key[pair[i]] = pair[i + 1]
    know("string", "data_dir node_name node_id client_addr encrypt addresses.http addresses.https raft_logstore.backend")
    know("bool", "server leave_on_terminate skip_leave_on_interrupt bootstrap")
    know("number", "bootstrap_expect ports.http ports.https")
    know("object", "addresses ports raft_logstore")
    know("list", "retry_join")
    problem = ""
    if (fact["source"] == "unit") from_unit()
    if (!problem) unwrap()
    if (container) print "container yes"
    if (problem) { print "start_problem " one_line(problem); exit }
    for (i = 1; i <= word_count; i++) print "word " encoded(word[i])
    if (fact["era"]) { evaluate(fact["era"]); printf "%s", answers; exit }
    # Most configurations mean the same to every version. Of another one, who runs it has to tell its version.
    evaluate("0.6"); oldest = answers
    evaluate("0.7"); older = answers
    evaluate("1.0")
    if (answers == older && older == oldest) printf "%s", answers
    else print "era_matters yes"
}

function know(type, names,    i, name) {
    split(names, name, " ")
    for (i in name) known_type[name[i]] = type
}
function fail(text) { if (!problem) problem = text; return "" }
function encoded(text) { gsub(/\n/, "\001", text); return text }
function one_line(text) { gsub(/[\001-\037\177]/, "?", text); return text }
function quoted(text) { gsub(/\047/, "\047\\\047\047", text); return "\047" text "\047" }
function base(path) { sub(/.*\//, "", path); return path }

# --- the words that systemd would start

# Takes the first string of busctl off `rest`: "..." with the escapes of C.
function bus_string(    out, c) {
    sub(/^ */, "", rest)
    if (substr(rest, 1, 1) != "\"") return fail("what systemd tells of the start command has another form")
    rest = substr(rest, 2)
    out = ""
    while (1) {
        if (match(rest, /^[^"\\]+/)) { out = out substr(rest, 1, RLENGTH); rest = substr(rest, RLENGTH + 1) }
        c = substr(rest, 1, 1)
        if (c == "\"") { rest = substr(rest, 2); return out }
        if (c == "") return fail("what systemd tells of the start command ends too early")
        c = substr(rest, 2, 1)
        if (match(rest, /^\\[0-7][0-7][0-7]/)) {
            out = out sprintf("%c", substr(rest, 2, 1) * 64 + substr(rest, 3, 1) * 8 + substr(rest, 4, 1))
            rest = substr(rest, 5)
            continue
        }
        out = out (c == "n" ? "\n" : c == "t" ? "\t" : c == "r" ? "\r" : c == "s" ? " " : c)
        rest = substr(rest, 3)
    }
}
function bus_atom(    atom) {
    sub(/^ */, "", rest)
    atom = rest
    sub(/ .*/, "", atom)
    rest = substr(rest, length(atom) + 1)
    return atom
}

function bus_list() { bus_atom(); return bus_atom() + 0 }

function from_unit(    count, i, args, e, path, option, expands, turn) {
    if ("unknown" in fact) return fail(fact["unknown"])
    if ("argv" in fact) {
        sub(/ *; ignore_errors=.*/, "", fact["argv"])
        word_count = split(fact["argv"], word, " ")
        fact["cwd"] = "/"
        return
    }
    expands = 1
    rest = fact["ExecStart"]
    if ("ExecStartEx" in fact) { rest = fact["ExecStartEx"]; expands = rest !~ /"no-env-expand"/ }
    count = bus_list()
    if (count != 1) return fail(count ? "the unit has " count " start commands" : "the unit has no start command")
    path = bus_string()
    args = bus_atom() + 0
    for (i = 1; i <= args; i++) e[i] = bus_string()
    rest = fact["RootDirectory"]
    bus_atom()
    if (bus_string() != "") return fail("the unit has a root directory of its own")
    rest = fact["WorkingDirectory"]
    bus_atom()
    fact["cwd"] = bus_string()
    sub(/^!/, "", fact["cwd"])
    if (fact["cwd"] == "") fact["cwd"] = "/"
    rest = fact["Environment"]
    for (i = bus_list(); i > 0; i--) set_variable(bus_string())
    rest = fact["EnvironmentFiles"]
    for (i = bus_list(); i > 0 && !problem; i--) {
        option = bus_string()
        environment_file(option, bus_atom() == "true")
    }
    rest = fact["UnsetEnvironment"]
    if (rest != "") for (i = bus_list(); i > 0; i--) {
        option = bus_string()
        if (index(option, "=") == 0) delete env[option]
        else if (env[substr(option, 1, index(option, "=") - 1)] == substr(option, index(option, "=") + 1))
            delete env[substr(option, 1, index(option, "=") - 1)]
    }
    # What the unit mounts over the disk of the host, for itself alone.
    if (fact["PrivateTmp"] ~ /true|connected|disconnected/) own_mount["/tmp"] = own_mount["/var/tmp"] = 1
    for (turn = 1; turn <= 2; turn++) {
        rest = fact[turn == 1 ? "BindPaths" : "BindReadOnlyPaths"]
        if (rest != "") for (i = bus_list(); i > 0; i--) { bus_string(); own_mount[bus_string()] = 1; bus_atom(); bus_atom() }
    }
    rest = fact["TemporaryFileSystem"]
    if (rest != "") for (i = bus_list(); i > 0; i--) { own_mount[bus_string()] = 1; bus_string() }
    if (problem) return
    word[++word_count] = path
    for (i = 2; i <= args && !problem; i++) {
        if (expands) expand(e[i])
        else word[++word_count] = e[i]
    }
}
function set_variable(text) { env[substr(text, 1, index(text, "=") - 1)] = substr(text, index(text, "=") + 1) }

# systemd: $NAME that is a whole word becomes its words, ${NAME} anywhere its text, $$ a dollar.
function expand(text,    out, at, close_at) {
    if (text ~ /^\$[^{$]/) return split_words(variable(substr(text, 2)))
    out = ""
    while ((at = index(text, "$")) > 0) {
        out = out substr(text, 1, at - 1)
        text = substr(text, at)
        if (substr(text, 2, 1) == "$") { out = out "$"; text = substr(text, 3) }
        else if (substr(text, 2, 1) == "{" && (close_at = index(text, "}")) > 0) {
            out = out variable(substr(text, 3, close_at - 3))
            text = substr(text, close_at + 1)
        }
        else { out = out "$"; text = substr(text, 2) }
    }
    word[++word_count] = out text
}
function variable(name) {
    if (name in env) return env[name]
    if (name ~ /^(HOME|USER|LOGNAME|SHELL|PATH|TERM|LANG|LC_.*|MAINPID|MANAGERPID|INVOCATION_ID|NOTIFY_SOCKET)$/ ||
        name ~ /^(LISTEN_.*|WATCHDOG_.*|SYSTEMD_.*|JOURNAL_STREAM|PIDFILE|.*_DIRECTORY|EXIT_.*|SERVICE_RESULT)$/)
        return fail("the start command takes $" name ", which systemd sets itself")
    # Else it may be of the manager, for all units.
    if (!("manager" in fact)) {
        fact["manager"] = ""
        RS = "\n"
        while (("systemctl show-environment" | getline line) > 0) fact["manager"] = fact["manager"] line "\n"
        RS = "\001"
        close("systemctl show-environment")
    }
    if (index("\n" fact["manager"], "\n" name "=")) return fail("the start command takes $" name " from the service manager")
    return ""
}
# Words between blanks, with quotes and backslashes as systemd takes them.
function split_words(text,    i, c, out, open, quote) {
    open = 0
    quote = out = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (c == "\\" && i < length(text)) { out = out substr(text, ++i, 1); open = 1 }
        else if (quote) { if (c == quote) quote = ""; else out = out c }
        else if (c == "\"" || c == "\047") { quote = c; open = 1 }
        else if (c ~ /[ \t\r\n]/) { if (open) word[++word_count] = out; out = ""; open = 0 }
        else { out = out c; open = 1 }
    }
    if (open) word[++word_count] = out
}

# EnvironmentFile=, as systemd reads it (its env-file.c).
function environment_file(path, optional,    text, state, i, c, key, val, blanks) {
    if (path ~ /[*?\[]/) return fail("the environment file " path " is a pattern")
    if (!is_file(path)) return optional ? "" : fail("the environment file " path " is not there")
    text = slurp(path) "\n"
    state = "line"
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (state == "line") {
            if (c == "#" || c == ";") state = "comment"
            else if (c !~ /[ \t\r\n]/) { state = "key"; key = c }
        } else if (state == "comment") {
            if (c ~ /[\r\n]/) state = "line"
            else if (c == "\\" && substr(text, i + 1, 1) == "\n") return fail("a comment in " path " ends with a backslash")
        } else if (state == "key") {
            if (c ~ /[\r\n]/) state = "line"
            else if (c == "=") { state = "before"; sub(/[ \t]+$/, "", key); val = blanks = "" }
            else key = key c
        } else if (state == "double") {
            if (c == "\"") state = "before"
            else if (c == "\\") {
                c = substr(text, ++i, 1)
                if (c != "\n") val = val (index("\"\\`$", c) ? "" : "\\") c
            } else val = val c
        } else if (state == "single") {
            if (c == "\047") state = "before"
            else if (c == "\\") return fail("a backslash between single quotes in " path)
            else val = val c
        } else if (c ~ /[\r\n]/) {
            if (key ~ /^[A-Za-z_][A-Za-z0-9_]*$/) env[key] = val
            state = "line"
        } else if (c == "\\") {
            c = substr(text, ++i, 1)
            if (c != "\n") { val = val blanks c; blanks = "" }
            state = "value"
        } else if (state == "before") {
            if (c == "\047") state = "single"
            else if (c == "\"") state = "double"
            else if (c !~ /[ \t]/) { state = "value"; val = val c }
        } else if (c ~ /[ \t]/) blanks = blanks c
        else { val = val blanks c; blanks = "" }
    }
    if (state != "line" && state != "comment") fail("a quote in " path " does not end")
}

# --- from the start command to the words of the agent

function drop_words(count,    i) {
    for (i = 1; i <= word_count - count; i++) word[i] = word[i + count]
    word_count -= count
}
# env, nice and the like, and `sh -c` with one plain command, are followed. Nothing that needs a shell is.
function unwrap(    turn, name) {
    for (turn = 1; turn <= 8 && !problem; turn++) {
        name = base(word[1])
        if (name ~ /consul/ && word[2] == "agent") return
        if (name ~ /^(docker|podman|nerdctl|ctr|crictl|runc|crun|lxc.*|systemd-nspawn|machinectl|kubectl|kubelet|nomad|docker-compose)$/) {
            container = 1
            return fail("the unit runs a container or what starts one (" name "): the paths in its configuration are not this host\047s")
        }
        if (name == "env") unwrap_env()
        else if (name ~ /^(nice|ionice|nohup|chrt|setsid)$/) unwrap_nice(name)
        else if (name ~ /^(sh|dash|bash)$/) unwrap_shell(name)
        else return fail("the unit runs " (word_count ? word[1] : "nothing") ", which is not the agent; what that would start cannot be told")
    }
    fail("the start command of the unit has too many layers")
}
function unwrap_env() {
    drop_words(1)
    while (word[1] ~ /^-/ && word_count) {
        if (word[1] == "-u") drop_words(2)
        else if (word[1] == "-i" || word[1] == "-") drop_words(1)
        else return fail("the start command calls env with " word[1])
    }
    while (word[1] ~ /^[A-Za-z_][A-Za-z0-9_]*=/ && word_count) drop_words(1)
}
function unwrap_nice(name) {
    drop_words(1)
    while (word_count && word[1] ~ /^-/) {
        if (word[1] ~ /^-[ncp]$/ && name != "setsid") drop_words(2)
        else if (word[1] ~ /^-[0-9ncbfiotrw-]/) drop_words(1)
        else return fail("the start command calls " name " with " word[1])
    }
    if (name == "chrt") drop_words(1)
}
function unwrap_shell(name,    text, i, c, quote, open, out, skip, var, val) {
    if (word[2] !~ /^-[eux]*c$/ || word_count < 3) return fail("the unit runs a script (" name " " word[2] "); what that would start cannot be told")
    text = word[3]
    sub(/^[ \t\n]+/, "", text)
    sub(/[ \t\n;]+$/, "", text)
    word_count = 0
    quote = out = ""
    open = skip = 0
    text = text " "
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (quote == "\047") { if (c == quote) quote = ""; else out = out c }
        else if (c == "$") {
            if (match(substr(text, i), /^\$[A-Za-z_][A-Za-z0-9_]*/)) var = substr(text, i + 1, RLENGTH - 1)
            else if (match(substr(text, i), /^\$\{[A-Za-z_][A-Za-z0-9_]*\}/)) var = substr(text, i + 2, RLENGTH - 3)
            else return fail("the start command gives the shell a $ that is no plain variable")
            i += RLENGTH - 1
            val = variable(var)
            if (quote) out = out val
            else if (val ~ /[*?\[\\]/) return fail("the start command gives the shell $" var ", which has a pattern in it")
            else {
                # Blanks in it part words; quotes in it are plain text.
                gsub(/[ \t\n]+/, " ", val)
                while ((c = index(val, " ")) > 0) {
                    out = out substr(val, 1, c - 1)
                    if (open || out != "") word[++word_count] = out
                    out = ""
                    open = 0
                    val = substr(val, c + 1)
                }
                out = out val
                if (val != "") open = 1
            }
        }
        else if (c == "`") return fail("the start command gives the shell a `")
        else if (quote) {
            if (c == quote) quote = ""
            else if (c == "\\") return fail("the start command gives the shell a backslash")
            else out = out c
        }
        else if (c == "\"" || c == "\047") { quote = c; open = 1 }
        else if (c ~ /[ \t]/) {
            if (open && skip) skip = 0
            else if (open) word[++word_count] = out
            out = ""
            open = 0
        }
        else if (c == ">" && (!open || out ~ /^[0-9]$/)) {
            # Where its output goes is no word of it.
            out = ""
            open = 0
            skip = 1
            if (substr(text, i + 1, 1) ~ /[>&]/) i++
        }
        else if (c ~ /[;|&<>()*?\[~#!{}\n\\]/) return fail("the start command gives the shell a " (c == "\n" ? "second line" : c))
        else { out = out c; open = 1 }
    }
    if (quote) return fail("the start command gives the shell a quote that does not end")
    while (word_count && word[1] ~ /^[A-Za-z_][A-Za-z0-9_]*=/) drop_words(1)
    if (word[1] == "exec") drop_words(1)
}

# --- files

function is_file(path) { return system("[ -f " quoted(path) " ]") == 0 }
function slurp(path,    text, got, part) {
    if (path in kept) return kept[path]
    text = ""
    part = 0
    while ((got = (getline line < path)) > 0) text = text (part++ ? "\001" : "") line
    close(path)
    if (got < 0) return fail(path " cannot be read")
    return kept[path] = text
}
function absolute(path) {
    if (path ~ /^\//) return path
    if (fact["cwd"] !~ /^\//) { fail("the path " path " is relative, and the working directory is not known"); return "" }
    return (fact["cwd"] == "/" ? "" : fact["cwd"]) "/" path
}

# Adds what Consul would read of a path: the file, or the files of the folder by their names (not of its subfolders).
function add_path(given_path, era,    path, cmd, kind, names, i, j, count, each, full) {
    path = absolute(given_path)
    if (path != "/") sub(/\/+$/, "", path)
    if (!(path in listing)) {
        listing[path] = ""
        cmd = "find -H " quoted(path) " -maxdepth 1 -printf \"%d%y%Y %f\\n\" 2>/dev/null"
        RS = "\n"
        while ((cmd | getline line) > 0) listing[path] = listing[path] line "\n"
        RS = "\001"
        close(cmd)
    }
    count = split(listing[path], names, "\n") - 1
    if (count < 1) return fail(path " is not there")
    for (i = 1; i <= count && names[i] !~ /^0/; i++) ;
    kind = substr(names[i], 3, 1)
    if (kind != "d") {
        last_dir = ""
        if (kind != "f" && kind != "p" && kind != "c") return fail(path " is no file")
        if (kind == "f") add_file(path, path, era, 0)
        else fail(path " is no plain file")
        return
    }
    last_dir = path
    dirs = dirs "config_dir " encoded(path) "\n"
    names[i] = names[count--]
    for (i = 2; i <= count; i++) {
        each = names[i]
        for (j = i - 1; j >= 1 && substr(names[j], 5) "" > substr(each, 5) ""; j--) names[j + 1] = names[j]
        names[j + 1] = each
    }
    for (i = 1; i <= count && !problem; i++) {
        each = substr(names[i], 5)
        full = path "/" each
        if (substr(names[i], 2, 1) == "l" && era >= 1) {
            # A link is read as what it leads to, by the name that has.
            if (substr(names[i], 3, 1) !~ /[fd]/) return fail(full " is a link to nothing")
            if (!(full in target)) {
                RS = "\n"
                cmd = "readlink -f " quoted(full)
                cmd | getline line
                close(cmd)
                RS = "\001"
                target[full] = line
            }
        } else target[full] = full
        if (substr(names[i], 3, 1) == "d") continue
        add_file(full, target[full], era, 1)
    }
}
function add_file(path, name, era, in_folder,    format) {
    format = name ~ /\.json$/ ? "json" : name ~ /\.hcl$/ ? "hcl" : ""
    if (era < 1) {
        if (in_folder && format != "json") return
        format = "json"
    } else if (config_format) format = config_format
    if (!format) return
    files = files "config_file " encoded(path) "\n"
    parse(path, slurp(path), format, era, in_folder)
    apply_parsed(path, era)
}

# --- one text of configuration: what it sets at its top level, and in the few blocks that matter here

function parse(label, text, format, era, in_folder) {
    split("", parsed)
    split("", parsed_type)
    split("", spelled)
    T = text
    P = 1
    N = length(T)
    where = label
    era_now = era
    if (problem) return
    if (T == "") { if (era < 1 && !in_folder) fail(label " is empty"); return }
    blocks = format == "hcl"
    if (blocks) {
        if (T ~ /^[ \t\r\n]*\{/) { json_root(); return }
        gsub(/\r\n/, "\n", T)
        N = length(T)
        hcl_items("", 0)
    } else json_root()
}
function bad(text,    lines, head) {
    head = substr(T, 1, P - 1)
    lines = gsub(/\n/, "", head) + 1
    return fail(where ", line " lines ": " text)
}
# Remembers a value under its key; `path` is the block that it stands in ("" for the top level, "-" for one of no interest).
function record(path, key, type, val,    id, plain) {
    if (path == "-") return
    plain = tolower(key)
    id = path plain
    if (!(id in known_type)) return
    # Consul takes a key in any case, but of two spellings it refuses one.
    if ((id in spelled) && spelled[id] != key) return bad("the key " plain " stands there in two spellings")
    spelled[id] = key
    if (!blocks) { parsed_type[id] = type; parsed[id] = val; return }
    if (id in parsed_type) {
        if (type == "list" && parsed_type[id] == "list") { parsed[id] += val; return }
        if (type != parsed_type[id] || type == "object") return bad("the key " plain " stands there twice, and the two do not go together")
    }
    parsed_type[id] = type
    parsed[id] = val
}
# The block that a key opens: its name with a dot, if values in it matter here.
function inner(path, key) {
    key = tolower(key) "."
    return path == "" && index(" addresses. ports. raft_logstore. ", " " key " ") ? key : "-"
}

# HCL 1, as the its own parser takes it. The next token: kind, and tok for its text.
function token(    w, c, at) {
    while (1) {
        w = substr(T, P, 400)
        if (w == "") { token_at = P; return kind = "end" }
        if (match(w, /^[ \t\r\n]+/)) { P += RLENGTH; continue }
        c = substr(w, 1, 1)
        if (c == "#" || w ~ /^\/\//) {
            while (!(at = index(w, "\n")) && P <= N) { P += length(w); w = substr(T, P, 400) }
            P += at
            continue
        }
        if (w ~ /^\/\*/) {
            P += 2
            while (!(at = index(w = substr(T, P, 400), "*/"))) {
                if (P > N) { bad("a comment does not end"); return kind = "end" }
                P += length(w) > 1 ? length(w) - 1 : 1
            }
            P += at + 1
            continue
        }
        break
    }
    token_at = P
    if (c == "\"") { P++; tok = hcl_string(); return kind = "string" }
    if (w ~ /^<</) { tok = heredoc(); return kind = "string" }
    if (match(w, /^[A-Za-z_\200-\377][A-Za-z0-9_.\200-\377-]*/)) {
        tok = substr(w, 1, RLENGTH)
        if (RLENGTH == 400) return bad("a name has no end")
        P += RLENGTH
        return kind = tok == "true" || tok == "false" ? "bool" : "name"
    }
    if (match(w, /^-?0[xX][0-9a-fA-F]+/)) { tok = based(substr(w, 1, RLENGTH), 16); P += RLENGTH; return kind = "number" }
    if (match(w, /^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?/)) {
        tok = substr(w, 1, RLENGTH)
        P += RLENGTH
        if (tok ~ /^-?0[0-9]+$/) tok = based(tok, 8)
        else if (tok ~ /[.eE]/) tok = int(tok)
        return kind = "number"
    }
    if (index("[]{},=", c)) { P++; return kind = c }
    bad("this character cannot stand here")
    return kind = "end"
}
function based(text, radix,    sign, n, i, digit) {
    sign = text ~ /^-/ ? -1 : 1
    sub(/^-?0[xX]?/, "", text)
    n = 0
    for (i = 1; i <= length(text); i++) {
        digit = index("0123456789abcdef", tolower(substr(text, i, 1))) - 1
        if (digit >= radix) return bad("this is no octal number")
        n = n * radix + digit
    }
    return sign * n
}
function utf8(n) {
    if (n < 1) return bad("a string has a NUL in it")
    if (n < 128) return sprintf("%c", n)
    if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
    if (n < 65536) return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
    return sprintf("%c%c%c%c", 240 + int(n / 262144), 128 + int(n / 4096) % 64, 128 + int(n / 64) % 64, 128 + n % 64)
}
function hexadecimal(text,    n, i, digit) {
    n = 0
    for (i = 1; i <= length(text); i++) {
        if (!(digit = index("0123456789abcdef", tolower(substr(text, i, 1))))) return bad("an escape in a string is wrong")
        n = n * 16 + digit - 1
    }
    return n
}
# The rest of a string, after its quote. What stands in ${...} stays as it is, quotes too.
function hcl_string(    out, w, c, depth) {
    out = ""
    depth = 0
    while (!problem) {
        w = substr(T, P, 400)
        if (w == "") return bad("a string does not end")
        if (depth ? match(w, /^[^{}\\]+/) : match(w, /^[^"\\$\n]+/)) { out = out substr(w, 1, RLENGTH); P += RLENGTH; continue }
        c = substr(w, 1, 1)
        if (c == "\\" && depth) { out = out substr(w, 1, 2); P += 2 }
        else if (c == "\\") {
            c = substr(w, 2, 1)
            P += 2
            if (c == "u" || c == "U" || c == "x") {
                depth = c == "x" ? 2 : c == "u" ? 4 : 8
                w = substr(T, P, depth)
                if (length(w) < depth) return bad("an escape in a string is wrong")
                P += depth
                out = out (c == "x" ? sprintf("%c", hexadecimal(w)) : utf8(hexadecimal(w)))
                depth = 0
            }
            else if (w ~ /^\\[0-3][0-7][0-7]/) { out = out sprintf("%c", based("0" substr(w, 2, 3), 8)); P += 2 }
            else if (index("abfnrtv", c)) out = out substr("\a\b\f\n\r\t\v", index("abfnrtv", c), 1)
            else if (c == "\\" || c == "\"") out = out c
            else return bad("an escape in a string is wrong")
        }
        else if (depth) { depth += c == "{" ? 1 : -1; out = out c; P++ }
        else if (c == "\"") { P++; return out }
        else if (c == "\n") return bad("a string does not end on its line")
        else if (substr(w, 2, 1) == "{") { depth = 1; out = out "${"; P += 2 }
        else { out = out "$"; P++ }
    }
}
function heredoc(    w, mark, indented, lines, count, i, at, text, cut, all) {
    w = substr(T, P, 400)
    if (!match(w, /^<<-?[A-Za-z0-9_]+\r?\n/)) return bad("what follows << is no mark of an end")
    mark = substr(w, 3, RLENGTH - 3)
    sub(/\r$/, "", mark)
    indented = mark ~ /^-/
    P += RLENGTH
    count = 0
    while (1) {
        text = ""
        while (!(at = index(w = substr(T, P, 400), "\n"))) {
            if (w == "") return bad("the text after <<" mark " does not end")
            text = text w
            P += length(w)
        }
        text = text substr(w, 1, at - 1)
        P += at
        cut = text
        sub(/\r+$/, "", cut)
        sub(/^[ \t\v\f\r]+/, "", cut)
        # The parser compares lengths first, and counts the dash with the mark.
        if (cut == substr(mark, 1 + indented) && length(text) >= length(mark)) break
        lines[++count] = text
    }
    sub(/\r+$/, "", text)
    cut = substr(text, 1, length(text) - length(mark) + indented)
    all = indented
    for (i = 1; i <= count && all; i++) if (substr(lines[i], 1, length(cut)) != cut) all = 0
    text = ""
    for (i = 1; i <= count; i++) text = text (all ? substr(lines[i], length(cut) + 1) : lines[i]) "\n"
    return text (indented ? "" : cut)
}
function hcl_items(path, depth,    keys, first, type) {
    while (!problem) {
        token()
        if (kind == "end") return depth ? bad("a block does not end") : ""
        if (kind == "}" && depth) return
        keys = 0
        while (kind == "name" || kind == "string") {
            if (!keys++) first = tok
            token()
        }
        if (problem) return
        if (!keys) return bad("a key was expected")
        if (kind == "=") {
            if (keys > 1) return bad("a block was expected after " keys " keys")
            token()
            type = hcl_value(inner(path, first), depth)
        } else if (kind == "{") {
            if (keys > 1 && inner(path, first) != "-") return bad("the block " tolower(first) " has a second name")
            hcl_items(inner(path, first), depth + 1)
            type = "object"
            tok = ""
        } else return bad("the key " one_line(first) " has no value")
        record(path, first, type, tok)
        if (problem) return
        if (token() != ",") P = token_at
    }
}
# Reads the value that token() has begun. Gives its type, with the value in tok (the length of a list).
function hcl_value(path, depth,    count, needs_comma) {
    if (kind == "string" || kind == "number" || kind == "bool") return kind
    if (kind == "{") { hcl_items(path, depth + 1); tok = ""; return "object" }
    if (kind != "[") return bad("a value was expected")
    count = needs_comma = 0
    while (!problem) {
        token()
        if (kind == "]") break
        if (kind == ",") { needs_comma = 0; continue }
        if (needs_comma) return bad("a comma or the end of the list was expected")
        needs_comma = kind != "["
        hcl_value("-", depth + 1)
        count++
    }
    tok = count
    return "list"
}

# JSON, as Go takes it; also the text of an HCL file that begins with a brace, for which `blocks` is set.
function skip_blanks(    w) {
    while (match(w = substr(T, P, 400), /^[ \t\r\n]+/)) P += RLENGTH
    return substr(w, 1, 1)
}
function json_root() {
    if (skip_blanks() == "{") { P++; json_object("", 0) }
    else if (substr(T, P, 4) == "null" && !blocks) P += 4
    else return bad("a { was expected")
    if (!problem && era_now >= 1 && !blocks && skip_blanks() != "") bad("something stands after the end")
}
function json_object(path, depth,    key, type, c, id) {
    if (!blocks && path != "" && path != "-")
        for (id in parsed_type) if (index(id, path) == 1) { delete parsed_type[id]; delete spelled[id] }
    c = skip_blanks()
    if (c == "}") { P++; return }
    while (!problem) {
        if (skip_blanks() != "\"") return bad("a key in quotes was expected")
        P++
        key = json_string()
        if (skip_blanks() != ":") return bad("a : was expected")
        P++
        type = json_value(inner(path, key), depth + 1)
        record(path, key, type, tok)
        c = skip_blanks()
        P++
        if (c == "}") return
        if (c != ",") { P--; return bad("a comma or the end of the object was expected") }
    }
}
function json_value(path, depth,    c, w, count) {
    c = skip_blanks()
    w = substr(T, P, 400)
    if (c == "\"") { P++; tok = json_string(); return "string" }
    if (c == "{") { P++; json_object(path, depth); tok = ""; return "object" }
    if (c == "[") {
        P++
        count = 0
        if (skip_blanks() == "]") P++
        else while (!problem) {
            json_value("-", depth + 1)
            count++
            c = skip_blanks()
            P++
            if (c == "]") break
            if (c != ",") { P--; return bad("a comma or the end of the list was expected") }
        }
        tok = count
        return "list"
    }
    if (match(w, /^(true|false)/)) { tok = substr(w, 1, RLENGTH); P += RLENGTH; return "bool" }
    if (w ~ /^null/ && !blocks) { P += 4; tok = ""; return "null" }
    if (match(w, /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/)) { tok = int(substr(w, 1, RLENGTH)); P += RLENGTH; return "number" }
    return bad("a value was expected")
}
function json_string(    out, w, c, n, low) {
    out = ""
    while (!problem) {
        w = substr(T, P, 400)
        if (w == "") return bad("a string does not end")
        if (match(w, /^[^"\\\001-\037]+/)) { out = out substr(w, 1, RLENGTH); P += RLENGTH; continue }
        c = substr(w, 1, 1)
        if (c == "\"") { P++; return out }
        if (c != "\\") return bad("a string does not end on its line")
        c = substr(w, 2, 1)
        P += 2
        if (c == "u") {
            n = hexadecimal(substr(w, 3, 4))
            P += 4
            if (n >= 55296 && n < 56320 && w ~ /^......\\u[dD][c-fC-F]/) {
                low = hexadecimal(substr(w, 9, 4))
                P += 6
                n = 65536 + (n - 55296) * 1024 + low - 56320
            }
            if (n >= 55296 && n < 57344) return bad("half a character in a string")
            out = out utf8(n)
        }
        else if (index("bfnrt", c) && c != "") out = out substr("\b\f\n\r\t", index("bfnrt", c), 1)
        else if (c == "\"" || c == "\\" || (c == "/" && !blocks)) out = out c
        else return bad("an escape in a string is wrong")
    }
}

# --- all of it together, in the order in which Consul puts one over the other

function set(id, type, val, origin, era) {
    if (type == "null") return
    if (type != known_type[id]) return fail(origin ": the value of " id " is no " known_type[id])
    if (type == "object") return
    if (type == "list") { setting[id] += val; return }
    # Before 1.0 a value of nothing does not take the place of another, except for these two from 0.7 on.
    if (era < 1 && (val == "" || val == "false" || val == 0) && !(era > 0.6 && id ~ /leave_on/)) return
    if (type == "string" && val ~ /[\200-\377]/ && !is_utf8(val)) return fail(origin ": the value of " id " is no UTF-8")
    setting[id] = val
    set_by[id] = origin
}
function is_utf8(text) {
    gsub(/[\302-\337][\200-\277]|[\340-\357][\200-\277][\200-\277]|[\360-\364][\200-\277][\200-\277][\200-\277]/, "", text)
    return text !~ /[\200-\377]/
}
function apply_parsed(origin, era,    id) {
    for (id in parsed_type) if (!problem) set(id, parsed_type[id], parsed[id], origin, era)
}
function is_true(text) {
    if (text ~ /^(1|t|T|TRUE|true|True)$/) return "true"
    if (text ~ /^(0|f|F|FALSE|false|False)$/) return "false"
    return fail("a flag of the agent is neither true nor false")
}
function say(name, text) {
    if (problem) return
    if (text ~ /[\001-\037\177]/ || text ~ /^ | $/) fail("the value of " name " has blanks at its ends or control characters")
    answers = answers name " " text "\n"
}
function evaluate(era_text,    era, i, j, w, flag, val, has, paths, path_count, hcl, hcl_count, flag_value, count, id) {
    era = era_text + 0
    answers = problem = files = dirs = last_dir = config_format = ""
    split("", setting)
    split("", set_by)
    path_count = hcl_count = 0
    for (i = 3; i <= word_count && !problem; i++) {
        w = word[i]
        if (w !~ /^-./) break
        if (w == "--") { i++; break }
        sub(/^--?/, "", w)
        j = index(w, "=")
        has = j > 0
        flag = has ? substr(w, 1, j - 1) : w
        val = has ? substr(w, j + 1) : ""
        if (flag ~ /^-/ || flag == "" || flag == "h" || flag == "help") fail("a flag of the agent is written wrongly")
        else if (flag ~ /^(bootstrap|dev|server|rejoin|syslog|ui|log-json|disable-host-node-id|disable-keyring-file|enable-script-checks|enable-local-script-checks|non-voting-server|read-replica|auto-reload-config|atlas-join)$/) {
            val = has ? is_true(val) : "true"
            if (flag == "dev" && val == "true") fail("the agent runs with -dev: it keeps nothing on the disk")
        }
        else if (!has && i < word_count) val = word[++i]
        else if (!has) fail("the last flag of the agent has no value")
        if (flag == "config-dir" || flag == "config-file") paths[++path_count] = val
        else if (flag == "config-format") config_format = val
        else if (flag == "hcl") hcl[++hcl_count] = val
        else if (flag == "retry-join") setting["retry_join"]++
        else if (flag in flag_key) flag_value[flag_key[flag]] = val
    }
    if (i <= word_count && era >= 1) fail("word " i " of the agent\047s command line is no flag")
    if (config_format && config_format != "hcl" && config_format != "json") fail("-config-format is neither hcl nor json")
    for (i = 1; i <= path_count && !problem; i++) add_path(paths[i], era)
    for (id in flag_value) {
        val = flag_value[id]
        if (known_type[id] == "number" && val !~ /^[+-]?[0-9]+$/) fail("a flag of the agent is no number")
        set(id, known_type[id], known_type[id] == "number" ? val + 0 : val, "flag", era)
    }
    for (i = 1; i <= hcl_count && !problem; i++) {
        parse("-hcl", hcl[i], "hcl", 1, 0)
        apply_parsed("-hcl", era)
    }
    if (!problem && setting["data_dir"] == "") fail("neither its flags nor its configuration files name a data_dir")
    if (!problem) {
        val = absolute(setting["data_dir"])
        while (val ~ /.\/$/) sub(/\/$/, "", val)
        for (i in own_mount) if (index(val "/", i "/") == 1) fail("the unit has a " i " of its own, and " val " is in it")
        say("data_dir", val)
        sub(/^ +/, "", setting["node_name"])
        sub(/ +$/, "", setting["node_name"])
        if (setting["node_name"] == "") { setting["node_name"] = slurp("/proc/sys/kernel/hostname"); sub(/\n.*/, "", setting["node_name"]) }
        say("node_name", setting["node_name"])
        say("node_id", tolower(setting["node_id"]))
        say("server", setting["server"] == "true" ? "true" : "false")
        say("leave_on_terminate", setting["leave_on_terminate"])
        say("skip_leave_on_interrupt", setting["skip_leave_on_interrupt"])
        say("bootstrap", setting["bootstrap"] == "true" ? "true" : "false")
        say("bootstrap_expect", setting["bootstrap_expect"] + 0)
        say("client_addr", setting["client_addr"])
        say("addresses_http", setting["addresses.http"])
        say("addresses_https", setting["addresses.https"])
        say("port_http", "ports.http" in setting ? setting["ports.http"] : 8500)
        say("port_https", "ports.https" in setting ? setting["ports.https"] : -1)
        say("retry_join", setting["retry_join"] + 0)
        say("raft_logstore", setting["raft_logstore.backend"])
        say("encrypt", setting["encrypt"] == "" ? "no" : "yes")
        for (i in set_by) if ((i == "bootstrap" || i == "bootstrap_expect") && set_by[i] !~ /^\//) say("expect_set_by", set_by[i])
        answers = answers files dirs "last_dir " encoded(last_dir) "\n"
    }
    if (problem) answers = "config_problem " one_line(problem) "\n"
}
'

need_raft_dir() {
    [ -n "$data_dir" ] || die 65 "${config_problem:-the data directory of $UNIT is not known}"
    [ -d "$data_dir/raft" ] || die 65 "$data_dir/raft is not there: this agent has never been a server here"
    [ ! -h "$data_dir/raft" ] || die 65 "$data_dir/raft is a symbolic link; that is not supported"
}

# Sets program, what the agent is or would be started from.
consul_program() {
    program=$agent_program
    case $program in /*) ;; *) program=$(command -v consul) || program= ;; esac
    [ -x "$program" ] || program=
}

drop_in_loaded() {
    case " $drop_in_paths " in
        *"/etc/systemd/system/$UNIT.d/$1 "*) [ "$need_daemon_reload" = no ] ;;
        *) false ;;
    esac
}

# Whether systemd has this condition of the unit, and not only our drop-in: a later drop-in, whoever's, may have
# reset them all. Sets void, why it is not in force.
in_force() {
    void=
    if [ ! -e "/etc/systemd/system/$UNIT.d/$1" ]; then
        void="its drop-in /etc/systemd/system/$UNIT.d/$1 is gone"
    elif ! drop_in_loaded "$1"; then
        void="systemd has not loaded what is on the disk (systemctl daemon-reload)"
    fi
    [ -z "$void" ] || return 1
    # systemctl does not print conditions (measured with 252), the bus has them since 2013.
    if [ -z "$conditions" ]; then
        conditions=$(busctl get-property org.freedesktop.systemd1 "$(unit_bus_path)" \
            org.freedesktop.systemd1.Unit Conditions 9>&- 2>/dev/null)
        conditions=${conditions:-unknown}
    fi
    find_void "$2"
    case $conditions in
        'a(sbbsi) '*' "ConditionPathExists" false true "'"$2"'" '*) void= ;;
        'a('*) void=${void:-"systemd does not have its condition"} ;;
        # Without busctl the files tell, in the order in which systemd reads them.
        *) ;;
    esac
    [ -z "$void" ]
}

# Sets void: the file that resets our condition on this path; "" where none does.
find_void() {
    void="no file of $UNIT has its condition"
    # shellcheck disable=SC2086  # drop-ins have no spaces in their names here: drop_in_loaded reads them so, too
    for each in "$fragment_path" $drop_in_paths; do
        [ -f "$each" ] || continue
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in [[:space:]]*Condition*) line=${line#"${line%%C*}"} ;; *) ;; esac
            case $line in
                Condition[A-Z]*=*)
                    value=${line#*=}
                    value=${value#"${value%%[![:space:]]*}"}
                    case $value in
                        '') void="$each resets the unit's conditions" ;;
                        "!$1") void= ;;
                        *) ;;
                    esac
                    ;;
                *) ;;
            esac
        done <"$each"
    done
}

# Whether what systemd has loaded is not what is on the disk. NeedDaemonReload does not tell of a folder of drop-ins
# that is new.
unit_is_stale() {
    [ "$need_daemon_reload" = no ] || return 0
    for file in "/etc/systemd/system/$UNIT.d"/*.conf; do
        [ -f "$file" ] || continue
        case " $drop_in_paths " in *" $file "*) ;; *) return 0 ;; esac
    done
    return 1
}

# Sets held_by and fenced_by: the run, "" unless the condition is really in force (a file alone holds nothing).
# hold_left is the run that the hold's file names all the same, hold_void and fence_void why they bar nobody.
find_bars() {
    held_by=
    hold_left=
    hold_void=
    fenced_by=
    fence_void=
    if [ -f "$STATE/hold" ]; then
        read -r hold_left _ <"$STATE/hold"
        if in_force "$HOLD_DROP_IN" "$STATE/hold"; then held_by=$hold_left; else hold_void=$void; fi
    fi
    if [ -f "$STATE/fenced" ]; then
        if in_force "$FENCE_DROP_IN" "$STATE/fenced"; then
            read -r fenced_by _ <"$STATE/fenced"
        else
            fence_void=$void
        fi
    fi
}

# Sets highest_epoch, and whose it is: its owner and its run, "" where no driver was ever here.
# A file that says no epoch (a torn disk, an editor, a file from elsewhere) counts as the highest one, not as none:
# nobody can say which drivers it would keep off. epoch_damaged is set then, and highest_epoch is 0.
read_epoch() {
    highest_epoch=0
    epoch_owner=
    epoch_run=
    epoch_damaged=
    # Not -f: a folder, a pipe or a dead link under this name says no epoch either.
    [ -e "$STATE/epoch" ] || [ -h "$STATE/epoch" ] || return 0
    rest=
    if [ -f "$STATE/epoch" ] && [ ! -h "$STATE/epoch" ]; then
        read -r highest_epoch epoch_owner epoch_run rest <"$STATE/epoch" || highest_epoch=
    else
        highest_epoch=
    fi
    case $highest_epoch in
        '' | 0* | *[!0-9]* | ????????????????*) epoch_damaged=yes ;;
        *) plain "$epoch_owner" && plain "$epoch_run" && [ -z "$rest" ] || epoch_damaged=yes ;;
    esac
    [ -n "$epoch_damaged" ] || return 0
    highest_epoch=0
    epoch_owner=
    epoch_run=
}

# The highest epoch, whose it is and what that run did here, for a store that has forgotten it.
say_epoch() {
    read_epoch
    say epoch "$highest_epoch"
    [ -z "$epoch_damaged" ] || say epoch_damaged yes
    [ -n "$epoch_run" ] || return 0
    say last_run "$epoch_run"
    [ ! -e "$STATE/archive/$epoch_run/state.tar" ] || say archived yes
    for done in "$STATE/receipts/$epoch_run/"*.do "$STATE/receipts/$epoch_run/"*.undo; do
        [ ! -f "$done" ] || say receipt "${done##*/}"
    done
}

kilobytes() {
    for path in "$@"; do
        shift
        [ ! -e "$path" ] || set -- "$@" "$path"
    done
    total=0
    [ $# -eq 0 ] || while read -r size _; do
        total=$((total + size))
    done <<SIZES
$(du -sk -- "$@")
SIZES
    printf '%s\n' "$total"
}

free_kilobytes() {
    place=$STATE
    [ -d "$place" ] || place=/var/lib
    blocks=$(stat -f -c '%a %S' -- "$place")
    printf '%s\n' $((${blocks% *} * ${blocks#* } / 1024))
}

# --- reading ----------------------------------------------------------------------------------------------

verb_look() {
    find_pid
    say active_state "$active_state"
    case $unit_file_state in
        enabled | enabled-runtime | linked | linked-runtime | alias) say enabled yes ;;
        *) say enabled no ;;
    esac
    say main_pid "${pid:-0}"
    if [ -n "$pid" ]; then
        find_origin "$pid"
        say running_s "$running_s"
        say run_by "$run_by"
    fi
    say unit_user "${unit_user:-root}"
    say unit "$UNIT"
    say data_dir "$data_dir"
    [ -z "$data_dir" ] || [ -d "$data_dir" ] || say data_dir_missing yes
    consul_program
    # Starting the program is half of a look's time: who knows its version already says for which file ("any": it is
    # not asked for).
    if [ -n "$program" ]; then
        stamp=$(stat -L -c %d-%i-%s-%Y-%Z "$program")
        say program "$stamp"
        case $1 in
            any | "$stamp") ;;
            *)
                program_version "$program"
                say version "$version"
                ;;
        esac
    fi
    say config_problem "$config_problem"
    say node_name "$node_name"
    say server "$server"
    say leave_on_terminate "$leave_on_terminate"
    printf '%s' "$settings"
    find_bars
    say held_by "$held_by"
    [ -z "$hold_left" ] || say hold_left "$hold_left"
    [ -z "$hold_void" ] || say hold_void "$hold_void"
    say fenced_by "$fenced_by"
    [ -z "$fence_void" ] || say fence_void "$fence_void"
    find_override
    [ -z "$override_by" ] || say override_by "$override_by"
    [ -z "$override" ] || say override "$override"
    say_epoch
    say free_bytes $(($(free_kilobytes) * 1024))
    [ -n "$data_dir" ] || return 0
    node_id=$configured_id
    if [ -z "$node_id" ] && [ -f "$data_dir/node-id" ]; then
        node_id=$(head -c 64 "$data_dir/node-id")
    fi
    case $node_id in *[A-Z]*) node_id=$(printf '%s' "$node_id" | tr '[:upper:]' '[:lower:]') ;; *) ;; esac
    say node_id "$node_id"
    if [ -f "$data_dir/raft/raft.db" ]; then
        say raft_db_bytes "$(stat -c %s "$data_dir/raft/raft.db")"
    fi
    [ ! -d "$data_dir/raft/wal" ] || say wal yes
    [ ! -e "$data_dir/raft/mdb" ] || say lmdb yes
    find_snapshots
    say snapshots "$snapshots"
    [ ! -f "$data_dir/raft/peers.info" ] || say peers_info yes
    if [ -f "$data_dir/raft/peers.json" ]; then
        head -c 65536 "$data_dir/raft/peers.json" | say_text peers_json
    fi
    say state_bytes $(($(kilobytes "$data_dir/raft" "$data_dir/serf") * 1024))
}

# Sets snapshots, their number, and metas, the meta.json of each, one a line.
find_snapshots() {
    snapshots=0
    metas=
    for meta in "$data_dir"/raft/snapshots/*/meta.json; do
        case $meta in *.tmp/meta.json) continue ;; esac
        [ -f "$meta" ] || continue
        snapshots=$((snapshots + 1))
        metas=$metas$meta$NEWLINE
    done
}

# Ranges of raft.db: `offset:length,offset:length`. The main pid is said too: a live file may change meanwhile.
# `snapshots` as a second word: with the meta.json of each, and `steady` if neither the file nor the process has
# changed from before the first range to after the last meta.json.
verb_raft_read() {
    need_raft_dir
    case $1 in *[!0-9:,]*) die 64 "not byte ranges: $1" ;; esac
    db=$data_dir/raft/raft.db
    # Where both are there Consul goes by raft.db.
    if [ ! -e "$db" ] && [ -d "$data_dir/raft/wal" ]; then
        begin_of_wal "$1" "$2"
        return
    fi
    [ -f "$db" ] && [ ! -h "$db" ] || die 65 "there is no $db"
    find_pid
    was=$(raft_stamp)
    say main_pid "${pid:-0}"
    read -r _ size _ <<STAMP
$was
STAMP
    say size "$size"
    printf '%s' "$1" | tr ',' '\n' | while IFS=: read -r offset length || [ -n "$offset" ]; do
        dd if="$db" iflag=skip_bytes,count_bytes skip="$offset" count="$length" bs=65536 status=none |
            say_text range
    done
    [ "$2" = snapshots ] || return 0
    verb_raft_snapshots
    read_facts
    find_pid
    [ "$(raft_stamp)" != "$was" ] || say steady yes
}

# The process and the file as they are now. The size comes second: verb_raft_read takes it from here.
raft_stamp() {
    printf '%s %s\n' "${pid:-0}" "$(stat -c '%s %i %y %z' "$db")"
}

# The same of a log in raft/wal: what lies there, and the ranges of its small database. `stamp` is what all the files
# are at that moment: whoever reads on with wal-read compares it.
begin_of_wal() {
    need_wal
    find_pid
    was=$(wal_stamp)
    say main_pid "${pid:-0}"
    say wal yes
    say stamp "$was"
    for file in "$wal"/*; do
        [ ! -f "$file" ] || say file "${file##*/} $(stat -c '%s %Y' -- "$file")"
    done
    db=$wal/wal-meta.db
    if [ -f "$db" ]; then
        printf '%s' "$1" | tr ',' '\n' | while IFS=: read -r offset length || [ -n "$offset" ]; do
            bytes_of "$db" "$offset" "$length"
        done
    fi
    [ "$2" = snapshots ] || return 0
    verb_raft_snapshots
    read_facts
    find_pid
    [ "$(wal_stamp)" != "$was" ] || say steady yes
}

# Sets wal.
need_wal() {
    wal=$data_dir/raft/wal
    [ -d "$wal" ] && [ ! -h "$wal" ] || die 65 "there is no folder $wal"
    for file in "$wal"/*; do
        [ ! -h "$file" ] || die 65 "$file is a symbolic link; that is not supported"
    done
}

# The process and all files of the folder as they are now, in one word.
wal_stamp() {
    { printf '%s\n' "${pid:-0}" && stat -c '%n %s %i %y %z' -- "$wal"/* 2>/dev/null; } | sha256sum | cut -c 1-32
}

bytes_of() {
    dd if="$1" iflag=skip_bytes,count_bytes skip="$2" count="$3" bs=65536 status=none | say_text range
}

# Parts of a log in raft/wal: `NAME:OFFSET:LENGTH,...`, or for a segment `NAME:walk:CHECKED` (see wal_walk).
verb_wal_read() {
    need_raft_dir
    need_wal
    case $1 in *[!0-9a-z:,.-]*) die 64 "not parts of a log: $1" ;; esac
    find_pid
    say main_pid "${pid:-0}"
    printf '%s' "$1" | tr ',' '\n' | while IFS=: read -r name offset length || [ -n "$name" ]; do
        segment=${name%.wal}
        case $name in
            wal-meta.db) ;;
            *.wal)
                case ${segment%%-*} in *[!0-9]*) die 64 "not a segment's name: $name" ;; esac
                case ${segment#*-} in *[!0-9a-f]*) die 64 "not a segment's name: $name" ;; esac
                [ ${#segment} = 37 ] || die 64 "not a segment's name: $name"
                ;;
            *) die 64 "not a file of a log: $name" ;;
        esac
        [ -f "$wal/$name" ] || die 65 "there is no $wal/$name"
        case $offset$length in
            walk[01]) walk_through "$wal/$name" "$length" ;;
            *[!0-9]*) die 64 "not a byte range: $offset:$length" ;;
            *) bytes_of "$wal/$name" "$offset" "$length" ;;
        esac
    done || exit
    read_facts
    find_pid
    say stamp "$(wal_stamp)"
}

walk_through() {
    command -v perl >/dev/null || die 65 "perl is not on this host; a log in raft/wal cannot be read without it"
    walked=$(wal_walk "$1" "$2" 2>&1) || die 65 "$1 cannot be read: $walked"
    printf '%s\n' "$walked" | say_text range
}

# One walk through all frames of a segment, with all checksums if the second word is 1: its answer is some hundred
# bytes, and some ten thousand where a segment is full. recovery/walsegment.py says what it means, and does the same
# for local files: a test compares both. In perl, which every Debian has: the checksum is none that a program of
# the host knows.
wal_walk() {
    perl - "$1" "$2" <<'PERL'
use strict;
use warnings;
use bytes;
my ($path, $checked) = @ARGV;
open(my $file, '<:raw', $path) or die "$!\n";
my $size = -s $file;
my (@low, @high);
if ($checked) {
    my @t;
    for my $n (0 .. 255) {
        my $v = $n;
        $v = ($v >> 1) ^ ($v & 1 ? 0x82F63B78 : 0) for 1 .. 8;
        $t[0][$n] = $v;
    }
    for my $k (1 .. 3) { $t[$k][$_] = $t[0][$t[$k - 1][$_] & 255] ^ ($t[$k - 1][$_] >> 8) for 0 .. 255 }
    for my $n (0 .. 65535) {
        $low[$n] = $t[3][$n & 255] ^ $t[2][$n >> 8];
        $high[$n] = $t[1][$n & 255] ^ $t[0][$n >> 8];
    }
}
# The window is the file from $start on, the walk is at $at; $summed is how far the checksum goes.
my ($window, $start, $at, $summed, $sum) = ('', 0, 0, 0, 0xFFFFFFFF);
sub sum_up {
    if ($checked) {
        for (unpack('V*', substr($window, $summed - $start, $at - $summed))) {
            $sum ^= $_;
            $sum = $low[$sum & 65535] ^ $high[$sum >> 16];
        }
    }
    $summed = $at;
}
sub have {
    my ($count) = @_;
    while (length($window) - ($at - $start) < $count) {
        sum_up();
        $window = substr($window, $at - $start);
        $start = $at;
        my $got = sysread($file, $window, 1048576, length($window));
        defined $got or die "$!\n";
        last unless $got;
    }
    my $left = length($window) - ($at - $start);
    return $left < $count ? $left : $count;
}
sub skip {
    my ($count) = @_;
    while ($count) {
        my $here = have($count < 1048576 ? $count : 1048576) & ~7;
        return 0 unless $here;
        $at += $here;
        $count -= $here;
    }
    return 1;
}
my $header = substr($window, 0, have(32));
my ($entries, $last, $index, $rotten, $commits, $stop) = (0, 0, 0, 0, 0, 'end');
my (@marks, @peers, $before, $final);
my $whole = skip(32);
while ($whole) {
    # Most frames are small and in the window already: no call for them.
    if (length($window) - ($at - $start) < 32) { last if have(32) < 8 }
    my $here = $at - $start;
    my ($kind, $number) = unpack('CxxxV', substr($window, $here, 8));
    if (!$kind && substr($window, $here, 8) eq "\0\0\0\0\0\0\0\0") { $stop = 'zeros'; last }
    if ($kind == 3) {
        $commits++;
        $rotten ||= $final->[0] if $final && !$final->[3];
        sum_up();
        my $fits = !$checked || ($sum ^ 0xFFFFFFFF) == $number;
        $sum = 0xFFFFFFFF;
        ($before, $final) = ($final, [$at, $entries, $last, $fits]);
        $at += 8;
        $summed = $at;
        next;
    }
    if ($kind > 2 || $number > 67108864) { $stop = 'garbage'; last }
    if ($kind == 2) { $index = $at + 8 }
    elsif ($kind == 1) {
        push @marks, [$entries, $at] if !@marks || $at - $marks[-1][1] >= 16384;
        push @peers, [$entries, $at] if substr($window, $here + 8, 24) =~
            /\A[\x80-\xff]{0,9}[\0-\x7f][\x80-\xff]{0,9}[\0-\x7f][\x02\x03\x05]/;
        $last = $at;
        $entries++;
    }
    else { $stop = 'garbage'; last }
    my $length = 8 + (($number + 7) & ~7);
    if ($here + $length <= length($window)) { $at += $length }
    else { $whole = skip($length) }
}
my ($loose, $torn) = ($entries - ($final ? $final->[1] : 0), 0);
if ($final && !$final->[3]) {
    if ($loose) { $rotten ||= $final->[0] }
    else { ($final, $torn) = ($before, 1) }
}
my ($count, $end, $stop_at) = ($final ? $final->[1] : 0, $final ? $final->[0] + 8 : 0, $at);
my $base = length($header) < 16 ? unpack('Q<', substr($header, 8) . "\0" x 8) : unpack('Q<', substr($header, 8, 8));
my $after = $base + $count - 1;
my ($behind, $lost) = (0, 0);
($window, $at) = ('', $end);
defined sysseek($file, $end, 0) or die "$!\n";
while (1) {
    my $got = sysread($file, $window, 1048576, length($window));
    defined $got or die "$!\n";
    last unless $got;
    if ($window =~ /[^\0]/) {
        my $from = $stop_at > $at ? $stop_at - $at : 0;
        $behind = 1 if $from < length($window) && substr($window, $from) =~ /[^\0]/;
        pos($window) = 0;
        while (!$lost && $window =~ /\x03\0\0\0.{4}\x01\0\0\0.{4}([\x80-\xff]{0,9}[\0-\x7f])/gs) {
            my ($place, $bits, $value) = ($-[0], 0, 0);
            pos($window) = $place + 1;
            for (unpack('C*', $1)) { $value += ($_ & 127) << $bits; $bits += 7 }
            $lost = $at + $place if !(($at + $place) % 8) && $after < $value && $value <= $after + 16777216;
        }
    }
    my $keep = length($window) < 32 ? length($window) : 32;
    $at += length($window) - $keep;
    $window = substr($window, length($window) - $keep);
}
printf "size %d\nheader %s\nstop %s %d\ncommits %d\nentries %d\nlast %d\nend %d\nloose %d\ntorn %d\nrotten %d\n",
    $size, unpack('H*', $header), $stop, $stop_at, $commits, $count, $final ? $final->[2] : 0, $end, $loose, $torn, $rotten;
printf "behind %d\nlost %d\nindex %d\nmarks %s\npeers %s\n", $behind, $lost, $index,
    map { my $all = $_; join ',', map { "$_->[0]:$_->[1]" } grep { $_->[0] < $count } @$all } \@marks, \@peers;
PERL
}

verb_raft_snapshots() {
    need_raft_dir
    find_snapshots
    printf '%s' "$metas" | while IFS= read -r meta; do
        head -c 1048576 "$meta" | say_text meta
    done
}

verb_peers() {
    # A server whose agent never ran has no raft/: then no peers.json is there either, and that was seen.
    [ -z "$data_dir" ] || [ -e "$data_dir/raft" ] || return 0
    need_raft_dir
    raft_owner=$(stat -c %u:%g "$data_dir/raft")
    for file in peers.json peers.info; do
        [ -f "$data_dir/raft/$file" ] || continue
        if [ "$(stat -c %u:%g "$data_dir/raft/$file")" = "$raft_owner" ]; then
            say "$file" owned
        else
            say "$file" foreign
        fi
    done
    [ ! -f "$data_dir/raft/peers.json" ] || head -c 65536 "$data_dir/raft/peers.json" | say_text content
}

# Consul's own numbers on stdout of `consul info`: the only source below 0.7. A token comes as the payload.
verb_info() {
    consul_program
    [ -n "$program" ] || die 65 "the program of $UNIT cannot be found"
    answer=$(CONSUL_HTTP_TOKEN=$PAYLOAD timeout 10 "$program" info 2>&1) ||
        die 65 "consul info: $(printf '%s' "$answer" | head -n 3)"
    printf '%s\n' "$answer" | say_text info
}

verb_journal() {
    case $1 in '' | *[!0-9]* | ??????*) die 64 "not a number of lines: $1" ;; esac
    journalctl -u "$UNIT" -b -n "$1" -o cat --no-pager 2>/dev/null | tail -c 262144 | say_text lines
}

verb_receipt() {
    key_of "$@"
    if [ -f "$receipt" ]; then
        say receipt 'done'
        sed -n 's/^evidence /evidence /p' "$receipt"
    else
        say receipt none
    fi
}

# Sets place and archive_state: good (there, checksum right, holds raft/), damaged or none.
check_archive() {
    place=$STATE/archive/$1
    if [ ! -f "$place/state.tar.sha256" ] || [ ! -f "$place/state.tar" ]; then
        archive_state=none
    elif [ "$(archive_stamp)" = "$(cat "$place/state.tar.stamp" 2>/dev/null)" ]; then
        # Its checksum was taken when it was written, and nobody has touched it since: a store of many gigabytes
        # cannot be read again within the time that a check has.
        archive_state=good
    elif (cd "$place" && sha256sum --status -c state.tar.sha256) &&
        tar -tf "$place/state.tar" | grep -qx "${data_dir#/}/raft/"; then
        archive_state=good
    else
        archive_state=damaged
    fi
}

archive_stamp() {
    stat -c '%i %s %Y %Z' "$place/state.tar"
}

verb_archive_check() {
    plain "$1" || die 64 "not a run: $1"
    check_archive "$1"
    say archive "$archive_state"
    [ "$archive_state" != none ] || return 0
    say path "$place/state.tar"
    say bytes "$(stat -c %s "$place/state.tar")"
    read -r sum _ <"$place/state.tar.sha256"
    say sha256 "$sum"
}

verb_snapshot_check() {
    plain "$1" || die 64 "not a run: $1"
    snapshot=$STATE/archive/$1/stale.snap
    if [ -s "$snapshot" ]; then
        say snapshot good
        say path "$snapshot"
        say bytes "$(stat -c %s "$snapshot")"
    else
        say snapshot none
    fi
}

# --- reading: where a data directory without Raft data comes from -----------------------------------------
# An empty one can be new, or stand where data was: a disk that is not mounted, something mounted over it, a
# directory that the agent does not see so. Costs more than a look, so it is asked only where no data was seen.

verb_origin() {
    say_runs
    say_leaders
    [ -n "$data_dir" ] || return 0
    find_pid
    say_unmounted
    say_beneath
    say_elsewhere
    [ -d "$data_dir" ] || return 0
    say since "$(stat -L -c %W "$data_dir" | tr -cd '0-9')"
    say_owner
    say_raft_gone
}

# Every run that was here, the newest ones first: its receipts, and whether it left an archive.
say_runs() {
    # shellcheck disable=SC2012  # names that this program has made, and checks
    { ls -1t "$STATE/receipts" 2>/dev/null && ls -1t "$STATE/archive" 2>/dev/null; } | sort -u |
        while IFS= read -r run; do
            plain "$run" || continue
            at=0
            for folder in "$STATE/receipts/$run" "$STATE/archive/$run"; do
                [ -d "$folder" ] || continue
                changed=$(stat -c %Y "$folder")
                [ "$changed" -le "$at" ] || at=$changed
            done
            archived=-
            [ ! -e "$STATE/archive/$run/state.tar" ] || archived=archived
            printf '%s %s %s\n' "$at" "$run" "$archived"
        done | sort -rn | head -n 20 | while read -r at run archived; do
        say run "$run $at $archived"
        for done in "$STATE/receipts/$run/"*.do "$STATE/receipts/$run/"*.undo; do
            [ ! -f "$done" ] || say receipt_of "$run ${done##*/}"
        done
    done
}

# The last line of the unit's journal, of any boot, that tells of a leader: the same words in all versions of Consul.
say_leaders() {
    led=$(timeout 6 journalctl -u "$UNIT" --no-pager -q -n 1 -o short-unix \
        -g 'cluster leadership acquired|New leader elected' 2>/dev/null | tail -n 1)
    case $led in [0-9]*' '*) ;; *) return 0 ;; esac
    at=${led%%[!0-9]*}
    say led_at "$at"
    printf '%s' "${led#* * }" | head -c 1000 | say_text led
}

# The places on which the data may be mounted, one a line: the data directory, what is above it but the root, and raft/
# in it; as the configuration names them, and with links followed.
data_places() {
    {
        for place in "$data_dir" "$(readlink -m -- "$data_dir")"; do
            printf '%s\n' "$place/raft"
            readlink -m -- "$place/raft"
            while [ -n "$place" ]; do
                printf '%s\n' "$place"
                place=${place%/*}
            done
        done
    } | awk 'length && !seen[$0]++'
}

# What is mounted, in the order of mounting: `place<TAB>file system<TAB>source`. Octal escapes are undone.
mounts() {
    while read -r _ _ _ _ place rest; do
        printf '%b\t%s\n' "$(printf '%s' "$place" | sed 's/\\/\\0/g')" "${rest##* - }"
    done </proc/self/mountinfo | sed 's/\t\([^ ]*\) \([^ ]*\).*/\t\1\t\2/'
}

# The file system that is mounted on a place now, "" for none.
mounted_on() {
    printf '%s\n' "$mounted" | awk -F '\t' -v place="$1" '$1 == place && $2 != "autofs" { kind = $2 } END { print kind }'
}

say_unmounted() {
    mounted=$(mounts)
    places=$(data_places)
    tab=$(printf '\t')
    [ ! -r /etc/fstab ] || while read -r what where kind _; do
        case $what in '' | '#'*) continue ;; esac
        where=$(printf '%b' "$(printf '%s' "$where" | sed 's/\\/\\0/g')")
        where=${where%/}
        is_data_place "$where" || continue
        now=$(mounted_on "$where")
        case $now,$kind in
            ,*) say unmounted "$where$tab/etc/fstab$tab$what ($kind)" ;;
            tmpfs,tmpfs | ramfs,ramfs) ;;
            tmpfs,* | ramfs,*) say unmounted "$where$tab/etc/fstab$tab$what ($kind), while a $now is mounted there" ;;
            *) ;;
        esac
    done </etc/fstab
    units=$(printf '%s\n' "$places" | while IFS= read -r place; do systemd-escape -p --suffix=mount -- "$place"; done)
    [ -n "$units" ] || return 0
    # The generator makes units of fstab's lines too; those were told above.
    # shellcheck disable=SC2086  # escaped names: no blanks, no patterns
    systemctl show $units -p Id -p LoadState -p ActiveState -p Where -p What -p Type -p SourcePath 9>&- 2>/dev/null |
        say_dead_mounts
}

say_dead_mounts() {
    {
        cat
        printf '\n'
    } | while IFS= read -r line; do
        value=${line#*=}
        case $line in
            Id=*) id=$value ;;
            LoadState=*) load=$value ;;
            ActiveState=*) active=$value ;;
            Where=*) point=$value ;;
            What=*) what=$value ;;
            Type=*) kind=$value ;;
            SourcePath=*) source=$value ;;
            '')
                say_dead_mount
                id= load= active= point= what= kind= source=
                ;;
            *) ;;
        esac
    done
}

say_dead_mount() {
    case ${load:-} in not-found | '') return ;; esac
    [ "$active" != active ] && [ "${source:-}" != /etc/fstab ] || return 0
    [ -n "${point:-}" ] || point=$(systemd-escape -u -p -- "${id%.mount}")
    [ -z "$(mounted_on "$point")" ] || return 0
    say unmounted "$point$tab$id$tab${what:-unknown} (${kind:-$load})"
}

# Whether a mount point is one on the way to the data, or lies in the data directory.
is_data_place() {
    [ -n "$1" ] || return 1
    case $NEWLINE$places$NEWLINE in *"$NEWLINE$1$NEWLINE"*) return 0 ;; *) ;; esac
    case $1 in "$data_dir"/*) ;; *) return 1 ;; esac
}

# What lies covered under the mounts on the way: looked at in a mount namespace of its own, in which they are taken
# off one after the other. On the host nothing is unmounted. A file system in memory holds nothing for long.
say_beneath() {
    real=$(readlink -m -- "$data_dir")
    on=$(printf '%s\n' "$mounted" | awk -F '\t' -v real="$real/" \
        '$2 != "autofs" && ($1 == "/" || index(real, $1 "/") == 1) && length($1) >= length(best) { best = $1; kind = $2 }
        END { print best "\t" kind }')
    case $on in
        "/$tab"*) return 0 ;;
        *"${tab}tmpfs" | *"${tab}ramfs")
            say volatile "it lies on a ${on#*"$tab"} (${on%"$tab"*}), a file system in memory: what it held before the last boot or mount is gone"
            ;;
        *) ;;
    esac
    # shellcheck disable=SC2016  # for the inner shell
    beneath=$(timeout 5 unshare --mount --propagation private -- sh -c '
        real=$1
        for _ in 1 2 3 4 5 6 7 8; do
            at=$real
            while [ ! -e "$at" ]; do at=${at%/*}; [ -n "$at" ] || at=/; done
            # A place with two mounts, one over the other, is told twice.
            point=$(findmnt -n -o TARGET -T "$at" | head -n 1) && [ -n "$point" ] || exit 1
            [ "$point" != / ] || break
            umount -l -- "$point" || exit 1
            for file in raft/raft.db raft/wal raft/mdb raft/snapshots/*/meta.json; do
                [ ! -e "$real/$file" ] || { printf "%s\n" "$real/$file"; exit 0; }
            done
        done
        printf "nothing\n"' sh "$real" 2>/dev/null)
    case $beneath in
        /*) say beneath "$beneath" ;;
        nothing) ;;
        *)
            twice=$(printf '%s\n' "$mounted" | awk -F '\t' -v point="${on%"$tab"*}" '$1 == point && $2 != "autofs"' | wc -l)
            [ "$twice" -lt 2 ] ||
                say hindered "more than one file system is mounted on ${on%"$tab"*}, and what the covered one holds could not be seen"
            ;;
    esac
}

# What root finds under the path may be another directory than the running agent's, or its file another one.
say_elsewhere() {
    [ -n "$pid" ] || return 0
    here=$(stat -L -c %d:%i "$data_dir" 2>/dev/null)
    there=$(stat -L -c %d:%i "/proc/$pid/root$data_dir" 2>/dev/null)
    if [ "$here" = "$there" ]; then
        say_other_file
    else
        say elsewhere "process $pid sees another directory under $data_dir than root does"
    fi
}

# An agent that was started before something was mounted, or moved, goes on with the file that it has open.
say_other_file() {
    db=$data_dir/raft/raft.db
    find_pids
    file=
    for each in $pid $pids; do
        for link in "/proc/$each/fd"/*; do
            name=$(readlink -- "$link")
            case $name in */raft.db | */'raft.db (deleted)') ;; *) continue ;; esac
            file=$name
            [ ! "$link" -ef "$db" ] || return 0
        done
    done
    if [ -n "$file" ]; then
        say elsewhere "the agent has another $file open than what is under that path now"
    elif [ -e "$db" ]; then
        say elsewhere "the agent does not have $db open: what is there is not what it runs on"
    fi
}

# A mount point without its disk belongs to root, mostly, and the agent could not even start there.
say_owner() {
    [ -z "$pid" ] && [ -n "$unit_user" ] && [ "$unit_user" != root ] || return 0
    group=$(id -g -- "$unit_user" 2>/dev/null) && number=$(id -u -- "$unit_user" 2>/dev/null) || return 0
    [ "$number" != 0 ] || return 0
    # shellcheck disable=SC2016  # for the inner shell
    may=$(setpriv --reuid "$number" --regid "$group" --init-groups -- sh -c \
        'if [ -w "$1" ] && [ -x "$1" ]; then echo yes; else echo no; fi' sh "$data_dir" 2>/dev/null)
    [ "$may" != no ] ||
        say not_ours "$data_dir belongs to $(stat -L -c %U "$data_dir"), and $unit_user, as whom $UNIT runs, may not write in it: a mount point without its disk looks so"
}

# A server makes raft/raft.db at its first start, so what it keeps beside is not alone on one that never ran.
say_raft_gone() {
    [ ! -e "$data_dir/raft/raft.db" ] && [ ! -d "$data_dir/raft/wal" ] || return 0
    for trace in raft serf/remote.snapshot serf/remote.keyring raft/snapshots raft/peers.info; do
        if [ -h "$data_dir/$trace" ] && [ ! -e "$data_dir/$trace" ]; then
            say raft_gone "$data_dir/$trace is a link to $(readlink -- "$data_dir/$trace"), which is not there"
            return
        fi
        if [ -e "$data_dir/$trace" ]; then
            say raft_gone "$data_dir/$trace is there, as a server makes it, and raft/raft.db is not"
            return
        fi
    done
}

# --- changing: key, lock, epoch, receipt ------------------------------------------------------------------

plain() {
    case $1 in
        '' | .* | *[!A-Za-z0-9._:@+-]*) return 1 ;;
        *) return 0 ;;
    esac
}

key_of() {
    [ $# -ge 4 ] || die 64 "RUN STEP ATTEMPT DIRECTION are needed"
    for word in "$1" "$2" "$3" "$4"; do
        plain "$word" || die 64 "not a word of a key: $word"
    done
    RUN=$1
    case $3 in *[!0-9]*) die 64 "not an attempt: $3" ;; esac
    case $4 in do | undo) ;; *) die 64 "not a direction: $4" ;; esac
    receipt=$STATE/receipts/$1/$2.$3.$4
}

# Writes a text to a file that is either the old one or the new one, also after a power cut.
write_file() {
    new=$(mktemp "$1.XXXXXX") || return 1
    printf '%s\n' "$2" >"$new" && put_in_place "$1" && return
    # A full disk, mostly: what was there stays, and the rest of it is not left lying about.
    rm -f -- "$new"
    return 1
}

put_in_place() {
    sync "$new" && mv -f -- "$new" "$1" && sync "${1%/*}"
}

# A copy of peers.json as it is, in the archive folder of this run.
copy_peers_file() {
    mkdir -p "$STATE/archive/$RUN" || die 65 "$STATE/archive/$RUN cannot be made"
    new=$(mktemp "$STATE/archive/$RUN/$1.XXXXXX") || return 1
    head -c 65536 "$data_dir/raft/peers.json" >"$new" && put_in_place "$STATE/archive/$RUN/$1" && return
    rm -f -- "$new"
    return 1
}

# Nothing is changed on a host that cannot remember it.
cannot_write() {
    die 65 "$1 cannot be written: the disk is full, or the file system is mounted read-only; see \`df -i $STATE\`, \`df $STATE\` and \`mount\` on this host, mend it, then try again"
}

# Makes the state directory, and takes the lock that all changes of this host stand behind.
take_lock() {
    [ ! -h "$STATE" ] || die 65 "$STATE is a symbolic link"
    if [ -e "$STATE" ] && [ ! -d "$STATE" ]; then
        die 65 "$STATE is not a directory; move away what is there, then try again"
    fi
    [ -d "$STATE/receipts" ] && [ -d "$STATE/archive" ] || mkdir -p "$STATE/receipts" "$STATE/archive" ||
        cannot_write "$STATE"
    access=$(stat -c '%u %a' "$STATE")
    [ "${access% *}" = 0 ] || die 65 "$STATE does not belong to root"
    [ "$access" = '0 700' ] || chmod 0700 "$STATE" || cannot_write "$STATE"
    # File 9 is the lock. systemctl and consul get it closed: what they leave behind must not keep it.
    # `command`: without it a shell ends here by itself, with a status of its own, where the file cannot be opened.
    command exec 9>"$STATE/lock" || cannot_write "$STATE/lock"
    flock -w 20 9 || die 68 "another call is at work on this host; try again when it has ended"
}

claim() {
    key_of "$@"
    [ $# -ge 6 ] || die 64 "OWNER and EPOCH are needed"
    OWNER=$5
    EPOCH=$6
    plain "$OWNER" || die 64 "not an owner: $OWNER"
    case $EPOCH in '' | *[!0-9]* | ????????????????*) die 64 "not an epoch: $EPOCH" ;; esac
    take_lock
    [ ! -e "$STATE/receipts/$RUN/over" ] || die 66 "run $RUN is over: nothing more is done for it here"
    read_epoch
    if [ -n "$epoch_damaged" ]; then
        die 66 "$STATE/epoch says no epoch, so nobody knows which drivers it keeps off and none may change anything here; make sure that no other recovery works on this host, remove that file, then try again"
    fi
    if [ "$EPOCH" -lt "$highest_epoch" ]; then
        die 66 "a newer driver (epoch $highest_epoch) was here; epoch $EPOCH may change nothing any more"
    fi
    if [ "$EPOCH" -eq "$highest_epoch" ]; then
        [ "$epoch_owner" = "$OWNER" ] || die 67 "epoch $EPOCH belongs to $epoch_owner, not to $OWNER"
    else
        write_file "$STATE/epoch" "$EPOCH $OWNER $RUN" || cannot_write "$STATE/epoch"
    fi
    [ -d "$STATE/receipts/$RUN" ] || mkdir -p "$STATE/receipts/$RUN" || cannot_write "$STATE/receipts/$RUN"
}

begin() {
    claim "$@"
    if [ -f "$receipt" ]; then
        say skipped yes
        cat "$receipt"
        exit 0
    fi
    load_unit
    [ -z "$version" ] || [ "$known_stamp" = "$program_stamp" ] ||
        write_file "$STATE/version" "$program_stamp $version" || cannot_write "$STATE/version"
}

# From here on no older driver changes anything: begun or paused, it comes too late. The unit need not even be there.
verb_claim() {
    say evidence "epoch $EPOCH of $OWNER"
}

# The run is over: whatever of it is still on its way, whoever sent it, comes too late. No epoch is needed for that,
# and none is raised: the next run's driver has its own.
verb_close() {
    plain "$1" || die 64 "not a run: $1"
    take_lock
    mkdir -p "$STATE/receipts/$1" && write_file "$STATE/receipts/$1/over" over || cannot_write "$STATE/receipts/$1/over"
    say evidence "run $1 is over"
}

finish() {
    write_file "$receipt" "$(say evidence "$1")" || die 70 "done, but the receipt could not be written: $1"
    say evidence "$1"
}

need_our_hold() {
    find_bars
    [ "$held_by" = "$RUN" ]
}

need_stopped() {
    find_pid
    [ -z "$pid" ] || die 65 "the agent runs (process $pid); it has to be stopped for this"
}

# --- changing: the unit -----------------------------------------------------------------------------------

add_condition() {
    mkdir -p "/etc/systemd/system/$UNIT.d" && chmod 0755 "/etc/systemd/system/$UNIT.d" || return 1
    write_file "/etc/systemd/system/$UNIT.d/$1" "[Unit]${NEWLINE}ConditionPathExists=!$2" || return 1
    chmod 0644 "/etc/systemd/system/$UNIT.d/$1"
    systemctl daemon-reload 9>&- || return 1
    read_facts
    in_force "$1" "$2"
}

remove_condition() {
    rm -f -- "/etc/systemd/system/$UNIT.d/$1" "$2" || return 1
    [ "$1" != "$HOLD_DROP_IN" ] || rm -f -- "/run/systemd/system/$START_UNIT"
    rmdir -- "/etc/systemd/system/$UNIT.d" 2>/dev/null
    systemctl daemon-reload 9>&- || return 1
    read_facts
    ! drop_in_loaded "$1"
}

verb_hold() {
    find_bars
    before=$held_by
    begun=yes
    # For the start, which is not to wait until systemd has loaded it.
    write_start_unit || die 70 "/run/systemd/system/$START_UNIT could not be written"
    write_file "$STATE/hold" "$RUN" || die 70 "$STATE/hold could not be written"
    if ! add_condition "$HOLD_DROP_IN" "$STATE/hold"; then
        reason="the hold would not keep $UNIT from starting: ${void:-its drop-in could not be written and loaded}"
        remove_condition "$HOLD_DROP_IN" "$STATE/hold" || die 70 "$reason; and it could not be taken off again"
        die 71 "$reason; it was taken off again"
    fi
    if [ -n "$before" ] && [ "$before" != "$RUN" ]; then
        finish "held; the hold of $before was taken over"
    else
        finish "held: $UNIT cannot be started until this is released"
    fi
}

verb_release() {
    begun=yes
    remove_condition "$HOLD_DROP_IN" "$STATE/hold" || die 70 "the hold on $UNIT could not be taken off"
    finish "released"
}

# Sets stopped_how. A stop must never be a leave: the set of servers would shrink (or, below 0.7, be emptied). Whether
# a signal is one depends on the version, on flags, fragments and files; so the agent gets the one that it cannot
# answer. What it acknowledged is on its disk: Raft is made for crashes (docs/adr/0023). All processes of the unit
# get it at once, from systemd: of a wrapper that ended first, systemd itself would send the agent the unit's signal.
stop_without_leaving() {
    keep_what_ran
    find_pids
    had=${agent_pid:-${pids%%"$NEWLINE"*}}
    find_bars
    # Barred from starting, no Restart= brings another process, and what has been killed runs no ExecStop. A stop
    # by systemd is only needed to end a restart that waits.
    [ -n "$held_by$fenced_by" ] && [ -z "$exec_stop$exec_stop_post" ] || make_the_stop_a_kill
    begun=yes
    systemctl kill -s KILL --kill-who=all "$UNIT" 9>&- 2>/dev/null
    timeout 60 systemctl stop "$UNIT" 9>&- 2>/dev/null
    left=300
    while [ "$left" -gt 0 ]; do
        read_facts
        find_pids
        case $active_state in
            inactive | failed) [ -n "$pids" ] || break ;;
            *) ;;
        esac
        for each in $pids; do
            kill -9 "$each" 2>/dev/null
        done
        left=$((left - 1))
        sleep 0.1
    done
    forget_stop_drop_in
    [ "$left" -gt 0 ] || die 70 "the processes of $UNIT did not end within 30 s after they were killed"
    if [ "$active_state" = failed ]; then
        systemctl reset-failed "$UNIT" 9>&- 2>/dev/null
        read_facts
    fi
    if [ -n "$had" ]; then
        stopped_how="stopped (process $had, signal 9)"
    else
        stopped_how="no process was there"
    fi
}

# What the unit's wrapper had started, for who asks while it is stopped (read_agent).
keep_what_ran() {
    [ -n "$agent_pid" ] || return 0
    write_file "$STATE/ran" "$command${NEWLINE}cwd $(readlink "/proc/$agent_pid/cwd")${NEWLINE}words$NEWLINE${agent_words%"$NEWLINE"}" ||
        cannot_write "$STATE/ran"
}

# For this one stop: no command of the unit's own runs, its signal is a kill, and nothing starts it again.
make_the_stop_a_kill() {
    mkdir -p "/run/systemd/system/$UNIT.d" || die 65 "/run/systemd/system/$UNIT.d cannot be made"
    chmod 0755 "/run/systemd/system/$UNIT.d"
    stop_dir=/run/systemd/system/$UNIT.d
    printf '[Unit]\nConditionPathExists=!/\n[Service]\nKillSignal=9\nKillMode=control-group\nRestart=no\nExecStop=\nExecStopPost=\n' \
        >"/run/systemd/system/$UNIT.d/$STOP_DROP_IN"
    chmod 0644 "/run/systemd/system/$UNIT.d/$STOP_DROP_IN"
    systemctl daemon-reload 9>&-
    read_facts
    if [ "$kill_signal" != 9 ] || [ -n "$exec_stop$exec_stop_post" ]; then
        forget_stop_drop_in
        die 65 "another drop-in of $UNIT sets KillSignal, ExecStop or ExecStopPost after ours; a stop could be a leave"
    fi
}

forget_stop_drop_in() {
    [ -f "/run/systemd/system/$UNIT.d/$STOP_DROP_IN" ] || return 0
    rm -f -- "/run/systemd/system/$UNIT.d/$STOP_DROP_IN"
    rmdir -- "/run/systemd/system/$UNIT.d" 2>/dev/null
    systemctl daemon-reload 9>&-
    stop_dir=
}

# Below 0.7 raft/peers.json is the live peer set, and whoever stops the agent otherwise empties it.
keep_peers_file() {
    [ -n "$data_dir" ] && [ -f "$data_dir/raft/peers.json" ] && [ ! -h "$data_dir/raft" ] || return 0
    # The first stop of a run saw what was there before it.
    [ -e "$STATE/archive/$RUN/peers.json" ] || copy_peers_file peers.json ||
        die 65 "raft/peers.json could not be copied to $STATE/archive/$RUN"
}

verb_stop() {
    refuse_strangers
    keep_peers_file
    stop_without_leaving
    finish "$stopped_how"
}

verb_start() {
    # What is started is what is on the disk, and a fence that systemd has not loaded yet bars too.
    if unit_is_stale; then
        systemctl daemon-reload 9>&- || die 65 "systemctl daemon-reload failed"
        load_unit
    fi
    find_bars
    [ -z "$fenced_by" ] || die 65 "fenced by $fenced_by; lift the fence first"
    refuse_strangers
    # Our own start takes that file away before anything runs.
    if [ -e "$STATE/hold" ] && [ -n "$pids" ]; then
        die 65 "$UNIT is held and runs all the same (process ${pids%%"$NEWLINE"*}): somebody else started it"
    fi
    forget_stop_drop_in
    systemctl reset-failed "$UNIT" 9>&- 2>/dev/null
    held=
    starting=$UNIT
    if [ -e "$STATE/hold" ]; then
        read -r held _ <"$STATE/hold" || held=$RUN
        starting=$START_UNIT
        start_unit_is_written || { write_start_unit && systemctl daemon-reload 9>&-; } ||
            die 65 "/run/systemd/system/$START_UNIT could not be written"
    fi
    # --no-block: a unit of Type=notify is "started" only when it has joined a peer, which may be down.
    if ! complaint=$(systemctl start --no-block "$starting" 9>&- 2>&1); then
        read_facts
        [ -z "$job" ] && { [ -z "$held" ] || [ -e "$STATE/hold" ]; } || begun=yes
        die 65 "systemd does not start $UNIT: $complaint"
    fi
    begun=yes
    await_start
    # A unit that is not started yet with commands before or after its start: systemd before 2019 forgets at a reload
    # which of them was running (systemd issue 518, pull request 12986). Without the hold's file the drop-in bars
    # nobody, and the next start takes it away.
    if [ "$active_state" != activating ] || [ -z "$exec_start_pre$exec_start_post" ]; then
        if [ -e "/etc/systemd/system/$UNIT.d/$HOLD_DROP_IN" ] && ! remove_condition "$HOLD_DROP_IN" "$STATE/hold"; then
            die 70 "start asked for, but the drop-in of the hold on $UNIT, which bars nobody now, could not be removed"
        fi
    fi
    finish "start asked for"
}

# A unit of ours that takes the hold's file away and starts the agent, in one transaction of systemd's: it makes all
# jobs or none, and the conditions of the agent's unit are looked at once ours has ended. So whoever is killed when,
# the server is held, or it is being started; nothing is in between.
start_unit() {
    printf '%s\n' '[Unit]' "Description=Take the hold of a recovery off $UNIT, and start it" "Requires=$UNIT" \
        "Before=$UNIT" StartLimitIntervalSec=0 '[Service]' Type=oneshot "ExecStart=/bin/rm -f -- $STATE/hold"
}

start_unit_is_written() {
    [ "$(start_unit)" = "$(cat "/run/systemd/system/$START_UNIT" 2>/dev/null)" ]
}

write_start_unit() {
    start_unit_is_written && return
    mkdir -p /run/systemd/system && write_file "/run/systemd/system/$START_UNIT" "$(start_unit)" &&
        chmod 0644 "/run/systemd/system/$START_UNIT"
}

# Waits until the start is seen to have worked, or is only waiting for its turn. Where it came to nothing, the hold
# comes back: what lies in the data directory may be half a plan, and the next one who starts the agent would take it.
await_start() {
    left=100
    while [ "$left" -gt 0 ]; do
        read_facts
        case $active_state in
            inactive | failed) [ -n "$job" ] || start_came_to_nothing ;;
            # Without a main process: commands before its start are still at work.
            activating) [ "$main_pid" = 0 ] || ! runs_its_program || return 0 ;;
            *) ! runs_its_program || return 0 ;;
        esac
        left=$((left - 1))
        sleep 0.02
    done
}

# Between the fork and the program systemd names the process in brackets: there may turn out to be no such program.
runs_its_program() {
    comm=
    [ ! -r "/proc/$main_pid/comm" ] || read -r comm <"/proc/$main_pid/comm"
    case $comm in '('*) return 1 ;; *) return 0 ;; esac
}

start_came_to_nothing() {
    # A job that has just ended may have left the state of before it.
    read_facts
    case $active_state in inactive | failed) [ -z "$job" ] || return 0 ;; *) return 0 ;; esac
    reason="systemd says: $result, exit status ${exit_status:-unknown}"
    [ "$condition_result" != no ] || reason="a condition of the unit does not hold (\`systemctl status $UNIT\` names it)"
    told=$(journalctl -u "$UNIT" -b -n 1 -o cat --no-pager 2>/dev/null)
    reason="$UNIT did not start: $reason${told:+; the journal ends with: $told}"
    [ -n "$held" ] || die 71 "$reason"
    write_file "$STATE/hold" "$held" && add_condition "$HOLD_DROP_IN" "$STATE/hold" ||
        die 70 "$reason; and it could not be held again: nothing keeps it from starting now"
    die 71 "$reason; it is held again"
}

verb_fence() {
    refuse_strangers
    keep_peers_file
    begun=yes
    was_enabled=no
    if [ -f "$STATE/fenced" ]; then
        was_enabled=$(cut -d ' ' -f 2 "$STATE/fenced")
    elif [ "$unit_file_state" = enabled ]; then
        was_enabled=yes
    fi
    write_file "$STATE/fenced" "$RUN $was_enabled" || die 70 "$STATE/fenced could not be written"
    if ! add_condition "$FENCE_DROP_IN" "$STATE/fenced"; then
        reason="the fence would not keep $UNIT from starting: ${void:-its drop-in could not be written and loaded}"
        remove_condition "$FENCE_DROP_IN" "$STATE/fenced" || die 70 "$reason; and it could not be taken off again"
        die 71 "$reason; it was taken off again"
    fi
    systemctl disable "$UNIT" 9>&- >/dev/null 2>&1
    stop_without_leaving
    [ "$unit_file_state" != enabled ] || die 70 "$UNIT could not be disabled"
    finish "fenced: $stopped_how, disabled, and barred from starting"
}

verb_lift() {
    was_enabled=no
    [ ! -f "$STATE/fenced" ] || was_enabled=$(cut -d ' ' -f 2 "$STATE/fenced")
    begun=yes
    if [ "$was_enabled" = yes ]; then
        systemctl enable "$UNIT" 9>&- >/dev/null 2>&1 || die 70 "$UNIT could not be enabled"
    fi
    remove_condition "$FENCE_DROP_IN" "$STATE/fenced" || die 70 "the fence on $UNIT could not be lifted"
    finish "fence lifted; the server is stopped"
}

# --- changing: bootstrap_expect, without touching the operator's files ------------------------------------
# A file that is read last in the configuration directory; where a flag says it (flags beat all files), or the
# last thing that the unit reads is no directory, a drop-in with the unit's own start command and one more flag.

# Sets override_by ("" for none) and override, the number that the next start takes ("" if it would not).
find_override() {
    override_by=
    override=
    marked=
    if [ -f "$STATE/override" ]; then
        read -r override_by marked _ <"$STATE/override"
        override_by=${override_by:-unknown}
    fi
    while IFS= read -r dir; do
        [ -n "$dir" ] && [ -f "$dir/$OVERRIDE_FILE" ] || continue
        override_by=${override_by:-unknown}
        if [ -z "$expect_set_by" ] && [ "${config_files##*"$NEWLINE"}" = "$dir/$OVERRIDE_FILE" ]; then
            override=$(tr -cd '0-9' <"$dir/$OVERRIDE_FILE")
        fi
    done <<DIRS
$config_dirs
DIRS
    if [ -f "/etc/systemd/system/$UNIT.d/$OVERRIDE_DROP_IN" ]; then
        override_by=${override_by:-unknown}
        case $exec_start in
            *" -bootstrap-expect=$marked ; "*)
                # A fragment (-hcl) beats a flag.
                ! drop_in_loaded "$OVERRIDE_DROP_IN" || [ "$bootstrap_expect" != "$marked" ] || override=$marked
                ;;
            *) ;;
        esac
    fi
}

# The unit's start command as its files have it, with all quotes and variables; "" where it is not one line.
start_command() {
    systemctl cat "$UNIT" 9>&- 2>/dev/null | sed -e ':more' -e '/\\$/{N;s/\\\n//;b more' -e '}' |
        sed -n 's/^ExecStart=[[:space:]]*//p' | tail -n 1
}

verb_override_expect() {
    case $1 in '' | 0* | *[!0-9]* | ???*) die 64 "not a number of servers: $1" ;; esac
    need_stopped
    need_our_hold || die 65 "the agent is not held by this run; whoever starts it would take the override"
    # One that another run left would be taken for the unit's own command.
    find_override
    if [ -n "$override_by" ]; then
        take_override_off || die 70 "an older override could not be taken off"
        load_unit
        # Nothing of an override is there now, whoever had left one.
        begun=
    fi
    [ -z "$config_problem" ] || die 65 "$config_problem"
    if [ "$bootstrap" = true ]; then
        die 65 "bootstrap = true is set for $UNIT: beside it Consul accepts no bootstrap_expect"
    fi
    if [ -z "$expect_set_by" ] && [ -n "$last_dir" ] && [ -d "$last_dir" ]; then
        write_file "$STATE/override" "$RUN $1 $last_dir/$OVERRIDE_FILE" || die 65 "$STATE/override cannot be written"
        begun=yes
        write_file "$last_dir/$OVERRIDE_FILE" "{\"bootstrap_expect\": $1}" ||
            die 70 "$last_dir/$OVERRIDE_FILE could not be written"
        chmod 0644 "$last_dir/$OVERRIDE_FILE"
        load_unit
        find_override
        if [ "$override" = "$1" ]; then
            finish "$last_dir/$OVERRIDE_FILE with bootstrap_expect $1"
            return
        fi
        take_override_off || die 70 "$last_dir/$OVERRIDE_FILE is not read last and could not be removed"
        begun=
    fi
    override_by_drop_in "$1"
}

override_by_drop_in() {
    command=$(start_command)
    plain_command=$(printf '%s' "$command" | sed 's/^[-@:+!]*//')
    first=${plain_command%%[[:space:]]*}
    case ${first##*/} in
        consul*) ;;
        *) die 65 "the start command of $UNIT is no plain call of consul; override bootstrap_expect by hand" ;;
    esac
    drop_ins=/etc/systemd/system/$UNIT.d
    write_file "$STATE/override" "$RUN $1 $drop_ins/$OVERRIDE_DROP_IN" || die 65 "$STATE/override cannot be written"
    begun=yes
    mkdir -p "$drop_ins" && chmod 0755 "$drop_ins" || die 70 "$drop_ins cannot be made"
    write_file "$drop_ins/$OVERRIDE_DROP_IN" \
        "[Service]${NEWLINE}ExecStart=${NEWLINE}ExecStart=$command -bootstrap-expect=$1" ||
        die 70 "$drop_ins/$OVERRIDE_DROP_IN could not be written"
    chmod 0644 "$drop_ins/$OVERRIDE_DROP_IN"
    systemctl daemon-reload 9>&- || die 70 "systemctl daemon-reload failed"
    load_unit
    find_override
    [ "$override" = "$1" ] || die 70 "systemd did not take the override of $UNIT"
    finish "drop-in of $UNIT with -bootstrap-expect=$1"
}

# The agent may run: it reads its configuration at its start only.
take_override_off() {
    written=
    begun=yes
    had_drop_in=no
    case $drop_in_paths in *"/$OVERRIDE_DROP_IN"*) had_drop_in=yes ;; *) ;; esac
    [ ! -e "/etc/systemd/system/$UNIT.d/$OVERRIDE_DROP_IN" ] || had_drop_in=yes
    [ ! -f "$STATE/override" ] || read -r _ _ written <"$STATE/override"
    while IFS= read -r file; do
        case ${file##*/} in
            "$OVERRIDE_FILE" | "$OVERRIDE_DROP_IN") rm -f -- "$file" || return 1 ;;
            *) ;;
        esac
    done <<FILES
$written
/etc/systemd/system/$UNIT.d/$OVERRIDE_DROP_IN
$(printf '%s' "$config_dirs" | sed "s|\$|/$OVERRIDE_FILE|")
FILES
    rmdir -- "/etc/systemd/system/$UNIT.d" 2>/dev/null
    [ "$had_drop_in" = no ] || systemctl daemon-reload 9>&- || return 1
    rm -f -- "$STATE/override"
}

verb_remove_override() {
    take_override_off || die 70 "the override of bootstrap_expect could not be taken off"
    load_unit
    find_override
    [ -z "$override_by" ] || die 70 "the override of bootstrap_expect is still there"
    finish "bootstrap_expect is not overridden"
}

# --- changing: what the agent keeps -----------------------------------------------------------------------

verb_archive() {
    need_stopped
    need_raft_dir
    place=$STATE/archive/$RUN
    mkdir -p "$place" || die 65 "$place cannot be made"
    set --
    for path in "$data_dir/raft" "$data_dir/serf" "$data_dir/node-id"; do
        [ ! -e "$path" ] || set -- "$@" "${path#/}"
    done
    while IFS= read -r file; do
        [ ! -f "$file" ] || set -- "$@" "${file#/}"
    done <<FILES
$config_files
FILES
    needed=$(cd / && kilobytes "$@")
    needed=$((needed + needed / 5 + 64))
    free=$(free_kilobytes)
    if [ "$free" -lt "$needed" ]; then
        die 69 "the archive needs $needed KiB in $STATE, but only $free KiB are free; make room and try again"
    fi
    rm -f -- "$place/state.tar" "$place/state.tar.sha256" "$place/state.tar.stamp" "$place/state.tar.new"
    # A raft.db or a segment of raft/wal can be far longer than what is in it; needed is what du counts, blocks.
    tar -C / -S -cf "$place/state.tar.new" -- "$@" || {
        rm -f -- "$place/state.tar.new"
        die 65 "tar could not read or write everything; nothing was kept"
    }
    sync "$place/state.tar.new"
    mv -- "$place/state.tar.new" "$place/state.tar"
    sum=$(cd "$place" && sha256sum state.tar) && write_file "$place/state.tar.sha256" "$sum" ||
        die 70 "the checksum of $place/state.tar could not be written"
    # Last, and only of one that is whole: from here on a look at it does not read it all again.
    tar -tf "$place/state.tar" | grep -qx "${data_dir#/}/raft/" || die 70 "$place/state.tar lacks ${data_dir}/raft"
    write_file "$place/state.tar.stamp" "$(archive_stamp)" || die 70 "$place/state.tar.stamp could not be written"
    finish "$place/state.tar, $(stat -c %s "$place/state.tar") bytes"
    verb_archive_check "$RUN"
}

# Empties raft/ and nothing else: with node-id and serf/ kept, the server comes back as itself, without a log.
# Cut off in the middle it is only half empty, but held: the next call goes on.
verb_wipe_raft() {
    need_stopped
    need_our_hold || die 65 "the agent is not held by this run; it could start with half a log"
    need_raft_dir
    check_archive "$RUN"
    [ "$archive_state" = good ] || die 65 "the archive of run $RUN is $archive_state; without it nothing is wiped"
    begun=yes
    find "$data_dir/raft" -mindepth 1 -delete || die 70 "$data_dir/raft could not be emptied"
    sync "$data_dir/raft"
    finish "$data_dir/raft emptied; what was there is in $place/state.tar"
}

# A snapshot of what this server holds, without a leader. The payload is the token, or empty.
verb_snapshot() {
    case $1 in
        http://127.0.0.1:*) tls=false ;;
        https://127.0.0.1:*) tls=true ;;
        *) die 64 "not an address on the loopback: $1" ;;
    esac
    consul_program
    [ -n "$program" ] || die 65 "the program of $UNIT cannot be found"
    place=$STATE/archive/$RUN
    mkdir -p "$place" || die 65 "$place cannot be made"
    # Without the scheme, which 0.7 would take for a part of the host's name; later ones take it either way.
    answer=$(CONSUL_HTTP_ADDR=${1#*://} CONSUL_HTTP_SSL=$tls CONSUL_HTTP_SSL_VERIFY=false CONSUL_HTTP_TOKEN=$PAYLOAD \
        timeout 120 "$program" snapshot save -stale "$place/stale.snap.new" 9>&- 2>&1) || {
        rm -f -- "$place/stale.snap.new"
        die 65 "no stale snapshot: $(printf '%s' "$answer" | tail -n 2)"
    }
    sync "$place/stale.snap.new"
    mv -f -- "$place/stale.snap.new" "$place/stale.snap"
    finish "$place/stale.snap, $(stat -c %s "$place/stale.snap") bytes"
}

# The payload is the file in base64. `info`: whether Consul is 0.7 or newer, which deletes peers.json unread
# when raft/peers.info is missing; an older one that is upgraded later would take the pair for a recovery.
verb_write_peers() {
    case $1 in info | no-info) ;; *) die 64 "not info or no-info: $1" ;; esac
    need_stopped
    need_our_hold || die 65 "the agent is not held by this run; a restart could read half a plan"
    need_raft_dir
    raft=$data_dir/raft
    owner=$(stat -c %u:%g "$raft")
    new=$(mktemp "$raft/peers.json.XXXXXX") || die 65 "nothing can be written in $raft"
    printf '%s' "$PAYLOAD" | base64 -d >"$new" 2>/dev/null || {
        rm -f -- "$new"
        die 65 "the list of peers could not be written to $raft"
    }
    case $(head -c 1 "$new") in
        '[') ;;
        *)
            rm -f -- "$new"
            die 64 "the payload is no list of peers"
            ;;
    esac
    # Consul deletes the file once it has read it, as the user that it runs as.
    # mktemp has made it 0600. -h: the folder is not root's, and what stands there under this name may be a link by now.
    if ! { chown -h "$owner" "$new" && sync "$new"; }; then
        rm -f -- "$new"
        die 65 "the owner of a new file in $raft could not be set"
    fi
    if [ "$1" = info ] && [ ! -e "$raft/peers.info" ] && ! write_peers_info; then
        rm -f -- "$new"
        die 65 "$raft/peers.info could not be written"
    fi
    wanted_sum=$(sha256sum <"$new")
    mv -f -- "$new" "$raft/peers.json"
    sync "$raft"
    [ "$(sha256sum <"$raft/peers.json")" = "$wanted_sum" ] || die 70 "$raft/peers.json is not what was written"
    finish "$raft/peers.json written, sha256 ${wanted_sum%% *}"
}

write_peers_info() {
    information=$(mktemp "$raft/peers.info.XXXXXX") || return 1
    printf 'Consul reads peers.json in this folder once, at its next start.\n' >"$information" &&
        chown -h "$owner" "$information" &&
        sync "$information" && mv -- "$information" "$raft/peers.info"
}

verb_remove_peers() {
    need_stopped
    need_raft_dir
    if [ -e "$data_dir/raft/peers.json" ]; then
        # Whoever wrote it, this run or a person: a copy stays.
        copy_peers_file peers.json.removed ||
            die 65 "raft/peers.json could not be copied to $STATE/archive/$RUN; it was not removed"
        rm -f -- "$data_dir/raft/peers.json" || die 70 "$data_dir/raft/peers.json could not be removed"
        sync "$data_dir/raft"
        finish "$data_dir/raft/peers.json removed"
    else
        finish "$data_dir/raft/peers.json was not there"
    fi
}

# --- the call ---------------------------------------------------------------------------------------------

main() {
    [ "$(id -u)" = 0 ] || die 64 "this has to run as root"
    [ $# -ge 2 ] || die 64 "usage: VERB UNIT ..."
    verb=$1
    UNIT=$2
    shift 2
    case $verb in
        look | origin | raft-read | wal-read | raft-snapshots | peers | info | journal | archive-check)
            load_unit
            ;;
        receipt | snapshot-check | close) ;;
        claim)
            claim "$@"
            shift 6
            ;;
        hold | release | stop | start | fence | lift | archive | wipe-raft | snapshot | write-peers | remove-peers | \
            override-expect | remove-override)
            begin "$@"
            shift 6
            ;;
        *) die 64 "no such verb: $verb" ;;
    esac
    case $verb in
        look) verb_look "${1:-}" ;;
        origin) verb_origin ;;
        raft-read) verb_raft_read "${1:-}" "${2:-}" ;;
        wal-read) verb_wal_read "${1:-}" ;;
        raft-snapshots) verb_raft_snapshots ;;
        peers) verb_peers ;;
        info) verb_info ;;
        journal) verb_journal "${1:-}" ;;
        receipt) verb_receipt "$@" ;;
        archive-check) verb_archive_check "${1:-}" ;;
        snapshot-check) verb_snapshot_check "${1:-}" ;;
        claim) verb_claim ;;
        close) verb_close "${1:-}" ;;
        hold) verb_hold ;;
        release) verb_release ;;
        stop) verb_stop ;;
        start) verb_start ;;
        fence) verb_fence ;;
        lift) verb_lift ;;
        archive) verb_archive ;;
        wipe-raft) verb_wipe_raft ;;
        snapshot) verb_snapshot "${1:-}" ;;
        write-peers) verb_write_peers "${1:-}" ;;
        remove-peers) verb_remove_peers ;;
        override-expect) verb_override_expect "${1:-}" ;;
        remove-override) verb_remove_override ;;
    esac
    # The first ones have just read what systemd knows.
    case $verb in
        hold | release | override-expect | remove-override) look_after true ;;
        stop | fence | lift | archive | wipe-raft | write-peers | remove-peers) look_after load_unit ;;
        *) ;;
    esac
}

# How the host is after an act, in its answer: whoever asked for the act would ask for that next. It cannot fail the
# act, which is done. None after a start: what that does is still to come.
look_after() {
    looked=$( ("$1" && verb_look any) 2>/dev/null) || return 0
    say looked yes
    printf '%s\n' "$looked"
}

case ${0##*/} in
    consul-recovery-host)
        PAYLOAD=$(cat)
        own=$(sha256sum <"$0")
        [ "${1:-}" = "${own%% *}" ] || die 64 "$0 is not the host.sh of this bot's version; copy that one to the host"
        shift
        ;;
    *) PAYLOAD=${PAYLOAD-} ;;
esac
main "$@" </dev/null
exit
