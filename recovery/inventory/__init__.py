"""Ansible's inventory format, in both directions: client agents read out of one, members printed as one.

Only what names hosts and their addresses is understood (groups, children, host
ranges, ansible_host); templates, group_vars and host_vars are not. For those
there is Ansible itself: a program that calls ``ansible-inventory --list`` is
an inventory like any other. The format is told in Ansible's "How to build
your inventory" and "Developing dynamic inventory".
"""
