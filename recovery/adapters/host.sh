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
        masked) die 65 "the unit $UNIT is masked: nothing can start it; \`systemctl unmask $UNIT\` on this host, then try again" ;;
        not-found | '') die 65 "there is no unit $UNIT on this host" ;;
        *) die 65 "systemd cannot load the unit $UNIT ($load_state: ${load_error:-no reason given}); mend its files, then try again" ;;
    esac
    case $exec_start in
        *consul*agent*) ;;
        *) die 65 "the unit $UNIT does not run a Consul agent" ;;
    esac
    read_flags
    find_data_dir
}

# Sets what systemd knows of the unit: facts, and of it a variable for each fact that is asked for.
read_facts() {
    facts=$(systemctl show "$UNIT" -p LoadState -p ActiveState -p UnitFileState -p MainPID -p User \
        -p ExecStart -p ExecStartPre -p ExecStartPost -p ExecStop -p ExecStopPost -p KillSignal \
        -p DropInPaths -p EnvironmentFiles -p Environment -p ControlGroup -p NeedDaemonReload \
        -p LoadError -p Job -p ConditionResult -p Result -p ExecMainStatus 9>&-) ||
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

# The process outside the unit that has the log's database open: somebody has started an agent by hand. BoltDB takes a
# lock on its file (flock), and the kernel tells whose it is.
stranger_pid() {
    [ -n "$data_dir" ] || return 0
    for db in "$data_dir/raft/raft.db" "$data_dir/raft/wal/wal-meta.db"; do
        [ -f "$db" ] || continue
        sed -n "s/^[0-9]*: FLOCK *ADVISORY *WRITE *\([0-9][0-9]*\) [0-9a-f:]*:$(stat -L -c %i "$db") .*/\1/p" /proc/locks |
            while IFS= read -r holder; do
                # The same number may be a file of another file system; by whatever path the process opened it.
                stat -L -c '%d %i' "/proc/$holder/fd/"* 2>/dev/null | grep -qx "$(stat -L -c '%d %i' "$db")" || continue
                printf '%s\n' "$holder"
                break
            done
    done | head -n 1
}

refuse_strangers() {
    find_pids
    [ -z "$pids" ] || return 0
    stranger=$(stranger_pid)
    [ -z "$stranger" ] || die 65 "process $stranger, which is none of $UNIT, has its log open: an agent was started by hand; stop it by hand"
}

# A variable of the unit. The files are read as text: sourcing them would run them.
unit_variable() {
    {
        printf '%s\n' "$facts" | sed -n 's/^Environment=//p' | tr ' ' '\n'
        printf '%s\n' "$facts" | sed -n 's/^EnvironmentFiles=\(.*\) (ignore_errors=.*/\1/p' |
            while IFS= read -r env_file; do
                [ ! -f "$env_file" ] || cat -- "$env_file"
                printf '\n'
            done
    } | sed -n "s/^[[:space:]]*$1=//p" | tail -n 1 | sed "s/^[\"']//; s/[\"'][[:space:]]*\$//"
}

agent_words_of() {
    [ -e "/proc/$1/cmdline" ] && words=$(tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null) || return 1
    case $NEWLINE$words$NEWLINE in
        *"${NEWLINE}agent$NEWLINE"*) printf '%s\n' "$words" ;;
        *) return 1 ;;
    esac
}

# The words of the agent's command line, one a line: of the running process, else as the unit has them.
agent_words() {
    agent_words_of "$main_pid" && return
    find_pids
    for pid in $pids; do
        agent_words_of "$pid" && return
    done
    argv=${exec_start##*'argv[]='}
    # One word each, whatever files there are that a word would match. Whoever calls this has it in a subshell.
    set -f
    for word in ${argv%%' ; ignore_errors='*}; do
        # shellcheck disable=SC2016  # literal dollar signs, as the unit has them
        case $word in
            '$'[A-Za-z_]*)
                case ${word#?} in *[!A-Za-z0-9_]*) continue ;; esac
                unit_variable "${word#?}" | tr ' ' '\n'
                ;;
            *'${'*'}'*)
                rest=${word#*\$\{}
                name=${rest%%\}*}
                case $name in '' | *[!A-Za-z0-9_]*) continue ;; esac
                printf '%s\n' "${word%%\$\{*}$(unit_variable "$name")${rest#*\}}"
                ;;
            *) printf '%s\n' "$word" ;;
        esac
    done
}

# Sets flag_data_dir, flag_expect and config_files, in the order in which Consul reads them: the last one wins.
# config_dirs are the directories among them; last_dir is the last thing read, "" where that is a file.
read_flags() {
    flag_data_dir=
    flag_expect=
    config_files=
    config_dirs=
    last_dir=
    wanted=
    words=$(agent_words)
    while IFS= read -r word; do
        flag=
        if [ -n "$wanted" ]; then
            flag=$wanted
            value=$word
            wanted=
        else
            case $word in
                -data-dir | --data-dir | -config-file | --config-file | -config-dir | --config-dir | \
                    -bootstrap-expect | --bootstrap-expect)
                    wanted=${word#-}
                    wanted=${wanted#-}
                    continue
                    ;;
                -bootstrap | --bootstrap)
                    flag=bootstrap
                    value=true
                    ;;
                -*=*)
                    flag=${word%%=*}
                    flag=${flag#-}
                    flag=${flag#-}
                    value=${word#*=}
                    ;;
                *) continue ;;
            esac
        fi
        case $flag in
            data-dir) flag_data_dir=$value ;;
            bootstrap-expect) flag_expect=$value ;;
            bootstrap) [ "$value" = false ] || flag_expect=bootstrap ;;
            config-file)
                add_config "$value"
                last_dir=
                ;;
            config-dir)
                last_dir=${value%/}
                config_dirs=$config_dirs$last_dir$NEWLINE
                # In the order of their names, as the shell gives them.
                for file in "$last_dir"/*; do
                    case $file in
                        *.json | *.hcl) [ ! -f "$file" ] || add_config "$file" ;;
                        *) ;;
                    esac
                done
                ;;
            *) ;;
        esac
    done <<WORDS
$words
WORDS
    read_config
}

add_config() {
    [ -n "$1" ] || return 0
    if [ -n "$config_files" ]; then
        config_files=$config_files'
'$1
    else
        config_files=$1
    fi
}

# Sets config_text: the configuration files in one line, without comment lines and block comments.
read_config() {
    set --
    while IFS= read -r file; do
        [ ! -f "$file" ] || set -- "$@" "$file"
    done <<FILES
$config_files
FILES
    config_text=
    [ $# -gt 0 ] || return 0
    config_text=$(sed -e 's/^[[:space:]]*#.*//' -e 's|^[[:space:]]*//.*||' -- "$@" | tr '\n' ' ')
    case $config_text in
        *'/*'*) config_text=$(printf '%s\n' "$config_text" | sed 's|/\*[^*]*\*/||g') ;;
        *) ;;
    esac
}

# A top-level value of the configuration files, "" where none has it. Reads JSON and HCL alike: the last
# `name = value` counts.
config_value() {
    case $config_text in *"$1"*) ;; *) return 0 ;; esac
    printf '%s\n' "$config_text" | sed -nE \
        "s/^(.*[^A-Za-z0-9_.-])?\"?$1\"?[[:space:]]*[:=][[:space:]]*(\"([^\"]*)\"|([A-Za-z0-9]+)).*\$/\\3\\4/p"
}

# Sets data_dir, "" when it cannot be found.
find_data_dir() {
    data_dir=${flag_data_dir:-$(config_value data_dir)}
    data_dir=${data_dir%/}
    case $data_dir in
        /*) ;;
        *) data_dir= ;;
    esac
}

need_raft_dir() {
    [ -n "$data_dir" ] || die 65 "the data directory of $UNIT cannot be found in its flags and configuration"
    [ -d "$data_dir/raft" ] || die 65 "$data_dir/raft is not there: this agent has never been a server here"
    [ ! -h "$data_dir/raft" ] || die 65 "$data_dir/raft is a symbolic link; that is not supported"
}

consul_program() {
    program=${exec_start#'{ path='}
    program=${program%% *}
    case ${program##*/} in
        consul*) ;;
        *) program=$(command -v consul) || program= ;;
    esac
    [ -x "$program" ] || program=
}

drop_in_loaded() {
    case " $drop_in_paths " in
        *"/etc/systemd/system/$UNIT.d/$1 "*) [ "$need_daemon_reload" = no ] ;;
        *) false ;;
    esac
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
find_bars() {
    held_by=
    fenced_by=
    if [ -f "$STATE/hold" ] && drop_in_loaded "$HOLD_DROP_IN"; then
        read -r held_by _ <"$STATE/hold"
    fi
    if [ -f "$STATE/fenced" ] && drop_in_loaded "$FENCE_DROP_IN"; then
        read -r fenced_by _ <"$STATE/fenced"
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
    say unit_user "${unit_user:-root}"
    say data_dir "$data_dir"
    consul_program
    # Starting the program is half of a look's time: who knows its version already says for which file ("any": it is
    # not asked for).
    if [ -n "$program" ]; then
        stamp=$(stat -L -c %d-%i-%s-%Y-%Z "$program")
        say program "$stamp"
        case $1 in
            any | "$stamp") ;;
            *)
                say version "$(timeout 5 "$program" version 2>/dev/null |
                    sed -n 's/^Consul v\{0,1\}\([0-9][0-9.]*[0-9]\).*/\1/p')"
                ;;
        esac
    fi
    say leave_on_terminate "$(config_value leave_on_terminate)"
    find_bars
    say held_by "$held_by"
    say fenced_by "$fenced_by"
    find_override
    [ -z "$override_by" ] || say override_by "$override_by"
    [ -z "$override" ] || say override "$override"
    say_epoch
    say free_bytes $(($(free_kilobytes) * 1024))
    [ -n "$data_dir" ] || return 0
    node_id=$(config_value node_id)
    if [ -z "$node_id" ] && [ -f "$data_dir/node-id" ]; then
        node_id=$(head -c 64 "$data_dir/node-id")
    fi
    case $node_id in *[A-Z]*) node_id=$(printf '%s' "$node_id" | tr '[:upper:]' '[:lower:]') ;; *) ;; esac
    say node_id "$node_id"
    if [ -f "$data_dir/raft/raft.db" ]; then
        say raft_db_bytes "$(stat -c %s "$data_dir/raft/raft.db")"
    fi
    [ ! -d "$data_dir/raft/wal" ] || say wal yes
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
    last if have(8) < 8;
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
        skip(8);
        $summed = $at;
        next;
    }
    if ($kind == 2) { $index = $at + 8 }
    elsif ($kind == 1) {
        push @marks, [$entries, $at] if !@marks || $at - $marks[-1][1] >= 16384;
        have(32);
        push @peers, [$entries, $at] if substr($window, $at - $start + 8, 24) =~
            /\A[\x80-\xff]{0,9}[\0-\x7f][\x80-\xff]{0,9}[\0-\x7f][\x02\x03\x05]/;
        $last = $at;
        $entries++;
    }
    else { $stop = 'garbage'; last }
    $whole = skip(8 + (($number + 7) & ~7));
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

begin() {
    key_of "$@"
    [ $# -ge 6 ] || die 64 "OWNER and EPOCH are needed"
    OWNER=$5
    EPOCH=$6
    plain "$OWNER" || die 64 "not an owner: $OWNER"
    case $EPOCH in '' | *[!0-9]* | ????????????????*) die 64 "not an epoch: $EPOCH" ;; esac
    take_lock
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
    if [ -f "$receipt" ]; then
        say skipped yes
        cat "$receipt"
        exit 0
    fi
    load_unit
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
    drop_in_loaded "$1"
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
    add_condition "$HOLD_DROP_IN" "$STATE/hold" || die 70 "systemd did not take the hold on $UNIT"
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

# Sets stopped_how. A stop must not be a leave: the set of servers would shrink (or, below 0.7, be emptied).
# So for this one stop the unit's own stop commands are off and the signal is one that does not leave. Where it is
# barred from starting, has no such commands, and the agent is all that runs, the signal alone does, without a
# drop-in: for systemd to load one and to forget it again takes as long as all the rest.
# A server without leader whose peers are dead hangs in its calls to them for 10 s (measured on 1.8.7). It is
# killed after 5: whatever it acknowledged is on its disk (Raft is made for crashes; raft.db is synced).
stop_without_leaving() {
    signal=15
    if [ -z "$config_files" ] || [ "$(config_value leave_on_terminate)" = true ]; then
        signal=9
    elif ! is_server && [ "$(config_value leave_on_terminate)" != false ]; then
        # A client agent leaves on SIGTERM unless it is told not to (from 0.7 on, Consul's documentation of
        # leave_on_terminate), and one that has left joins nobody at its next start without retry_join.
        signal=9
    fi
    find_pid
    had=$pid
    find_bars
    if [ -n "$held_by$fenced_by" ] && [ -z "$exec_stop$exec_stop_post" ] && agent_is_alone; then
        begun=yes
        signal_the_agent
    else
        bend_the_stop
        begun=yes
    fi
    timeout 60 systemctl stop "$UNIT" 9>&- 2>/dev/null
    left=300
    while [ "$left" -gt 0 ]; do
        read_facts
        find_pids
        case $active_state in
            inactive | failed) [ -n "$pids" ] || break ;;
            *) ;;
        esac
        left=$((left - 1))
        sleep 0.1
    done
    forget_stop_drop_in
    [ "$left" -gt 0 ] || die 70 "the processes of $UNIT did not end within 30 s after the stop"
    if [ "$active_state" = failed ]; then
        systemctl reset-failed "$UNIT" 9>&- 2>/dev/null
        read_facts
    fi
    if [ -n "$had" ]; then
        stopped_how="stopped (process $had, signal $signal)"
    else
        stopped_how="no process was there"
    fi
}

# Where the unit's main process is a wrapper, systemd itself sends the unit's own signal to the agent once that has
# ended; and what else an agent has started may outlive it.
agent_is_alone() {
    [ "$main_pid" != 0 ] || return 1
    find_pids
    for each in $pids; do
        [ "$each" = "$main_pid" ] || return 1
    done
    agent_words_of "$main_pid" >/dev/null
}

# Barred from starting: no Restart= brings another process. The stop of the unit itself comes when this one is gone:
# its own signal, waiting beside ours, would be delivered first (SIGINT is 2, SIGTERM 15), and may be a leave.
signal_the_agent() {
    systemctl kill -s "$signal" --kill-who=main "$UNIT" 9>&- 2>/dev/null
    await_end_of "$main_pid" 250
    # A number that is still there may be another process's by now: only systemd knows.
    if [ -e "/proc/$main_pid" ]; then read_facts; else main_pid=0; fi
    find_pids
    if [ -n "$pids" ]; then
        for each in $pids; do
            kill -9 "$each" 2>/dev/null
        done
        await_end_of "${pids%%"$NEWLINE"*}" 50
        read_facts
        find_pids
    fi
    [ -z "$pids" ] || bend_the_stop
}

# Waits for the end of a process, so many fiftieths of a second at most.
await_end_of() {
    left=$2
    while [ -e "/proc/$1" ] && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        sleep 0.02
    done
}

bend_the_stop() {
    mkdir -p "/run/systemd/system/$UNIT.d" || die 65 "/run/systemd/system/$UNIT.d cannot be made"
    chmod 0755 "/run/systemd/system/$UNIT.d"
    stop_dir=/run/systemd/system/$UNIT.d
    printf '[Service]\nKillSignal=%s\nKillMode=mixed\nSendSIGKILL=yes\nTimeoutStopSec=5\nExecStop=\nExecStopPost=\n' \
        "$signal" >"/run/systemd/system/$UNIT.d/$STOP_DROP_IN"
    chmod 0644 "/run/systemd/system/$UNIT.d/$STOP_DROP_IN"
    systemctl daemon-reload 9>&-
    read_facts
    if [ "$kill_signal" != "$signal" ] || [ -n "$exec_stop" ]; then
        forget_stop_drop_in
        die 65 "another drop-in of $UNIT sets KillSignal or ExecStop after ours; a stop could be a leave"
    fi
}

# Whether the agent runs as a server. In doubt it does not: then it is only stopped harder.
is_server() {
    case $NEWLINE$words$NEWLINE in
        *"$NEWLINE-server$NEWLINE"* | *"$NEWLINE--server$NEWLINE"* | *"$NEWLINE-server=true$NEWLINE"* | \
            *"$NEWLINE--server=true$NEWLINE"*) return 0 ;;
        *) ;;
    esac
    # Not config_value: `ports` has a `server` too.
    printf '%s\n' "$config_text" |
        grep -Eq '(^|[^A-Za-z0-9_.-])"?server"?[[:space:]]*[:=][[:space:]]*"?true'
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
    add_condition "$FENCE_DROP_IN" "$STATE/fenced" || die 70 "systemd did not take the fence on $UNIT"
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
        if [ -z "$flag_expect" ] && [ "${config_files##*"$NEWLINE"}" = "$dir/$OVERRIDE_FILE" ]; then
            override=$(tr -cd '0-9' <"$dir/$OVERRIDE_FILE")
        fi
    done <<DIRS
$config_dirs
DIRS
    if [ -f "/etc/systemd/system/$UNIT.d/$OVERRIDE_DROP_IN" ]; then
        override_by=${override_by:-unknown}
        case $exec_start in
            *" -bootstrap-expect=$marked ; "*) ! drop_in_loaded "$OVERRIDE_DROP_IN" || override=$marked ;;
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
    if [ "$flag_expect" = bootstrap ] || [ "$(config_value bootstrap)" = true ]; then
        die 65 "bootstrap = true is set for $UNIT: beside it Consul accepts no bootstrap_expect"
    fi
    if [ -z "$flag_expect" ] && [ -n "$last_dir" ] && [ -d "$last_dir" ]; then
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
    # A segment of raft/wal is made 64 MiB long, whatever is in it; its zeros are found by reading, because the disk
    # may have a place for them.
    holes=seek
    [ ! -d "$data_dir/raft/wal" ] || holes=raw
    tar -C / -S --hole-detection="$holes" -cf "$place/state.tar.new" -- "$@" || {
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
    case $1 in http://127.0.0.1:* | https://127.0.0.1:*) ;; *) die 64 "not an address on the loopback: $1" ;; esac
    consul_program
    [ -n "$program" ] || die 65 "the program of $UNIT cannot be found"
    place=$STATE/archive/$RUN
    mkdir -p "$place" || die 65 "$place cannot be made"
    answer=$(CONSUL_HTTP_ADDR=$1 CONSUL_HTTP_TOKEN=$PAYLOAD CONSUL_HTTP_SSL_VERIFY=false \
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
        look | raft-read | wal-read | raft-snapshots | peers | info | journal | archive-check)
            load_unit
            ;;
        receipt | snapshot-check) ;;
        hold | release | stop | start | fence | lift | archive | wipe-raft | snapshot | write-peers | remove-peers | \
            override-expect | remove-override)
            begin "$@"
            shift 6
            ;;
        *) die 64 "no such verb: $verb" ;;
    esac
    case $verb in
        look) verb_look "${1:-}" ;;
        raft-read) verb_raft_read "${1:-}" "${2:-}" ;;
        wal-read) verb_wal_read "${1:-}" ;;
        raft-snapshots) verb_raft_snapshots ;;
        peers) verb_peers ;;
        info) verb_info ;;
        journal) verb_journal "${1:-}" ;;
        receipt) verb_receipt "$@" ;;
        archive-check) verb_archive_check "${1:-}" ;;
        snapshot-check) verb_snapshot_check "${1:-}" ;;
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
