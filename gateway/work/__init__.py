"""What workers do: consumers that follow the log, tasks that fall due. `gateway.work.worker` runs them.

Inside `readback dev` beside the node, or alone as `readback work`, any number of them.
"""
