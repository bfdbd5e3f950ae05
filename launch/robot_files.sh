# SPDX-License-Identifier: Apache-2.0
# Launch files ask it where a robot's files are: sh robot_files.sh CONFIG KIND ROBOT
# ROBOT is a name in CONFIG/robots, or the path of a robot file anywhere, ending in .yaml.
config=$1 kind=$2 robot=$3
own=true
case $robot in
    "~/"*.yaml) robot=$HOME/${robot#"~/"} ;;
    /*.yaml) ;;
    *.yaml) robot=$PWD/$robot ;;
    *) own=false ;;
esac
case $kind in
    robot)
        if $own; then file=$robot; else file=$config/robots/$robot.yaml; fi
        ;;
    tuning)
        # A robot of one's own need not have one.
        if ! $own; then
            file=$config/tuning/$robot.yaml
        elif [ -f "${robot%.yaml}_tuning.yaml" ]; then
            file=${robot%.yaml}_tuning.yaml
        else
            file=$config/no_overrides.yaml
        fi
        ;;
    controller)
        # Name of the controller that takes the commands: CONTROLLER/commands, by default that of the interface.
        if $own; then file=$robot; else file=$config/robots/$robot.yaml; fi
        topic=$(sed -n 's/^ *command_topic: *"\{0,1\}\([^" ]*\)\/commands.*/\1/p' "$file" 2> /dev/null | head -n 1)
        interface=$(sed -n 's/.*interface: *\([a-z]*\).*/\1/p' "$file" 2> /dev/null | head -n 1)
        topic=${topic:-${interface:-effort}_controller}
        file=${topic##*/}
        ;;
    *)
        echo "robot_files.sh: got $kind, expected robot, tuning or controller" >&2
        exit 2
        ;;
esac
printf %s "$file"
