# SPDX-License-Identifier: Apache-2.0
# Start-up file of `./mbrl shell`: the user's own, then what the environment must win over.
mbrl_path=$PATH mbrl_python_path=$PYTHONPATH mbrl_prefixes=$AMENT_PREFIX_PATH mbrl_libraries=$LD_LIBRARY_PATH
[ -f ~/.bashrc ] && . ~/.bashrc
PATH=$mbrl_path PYTHONPATH=$mbrl_python_path AMENT_PREFIX_PATH=$mbrl_prefixes LD_LIBRARY_PATH=$mbrl_libraries
unset mbrl_path mbrl_python_path mbrl_prefixes mbrl_libraries
PS1="(mbrl) $PS1"
