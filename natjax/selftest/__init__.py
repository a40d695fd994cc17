"""Whether natjax computes what it should on this machine, and how fast.

`checks` compares what runs on the device with a reference on the CPU, `speed`
measures training steps beside what the device can do, `facts` says which device
it is, `report` puts all of that in order.
"""
