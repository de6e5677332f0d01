"""A channel between machines: one authenticated, framed stream of TCP for a worker and a group.

Whoever starts a lead makes a listening socket (listener.create_listener), and sends it down the
lead's line with control.Listen: the secret, and the certificate if the stream is to be encrypted.
The lead accepts and authenticates in a thread of its own (acceptor.Acceptor) and takes what has
passed into its step loop as a TcpLeadEnd. A worker is told by control.Dial where the group listens
(address.LeadAddress: host, port, secret, the group's incarnation, the certificate's fingerprint);
it connects in a thread (dial.dial), then has a TcpWorkerEnd in its event loop.

Heads of frames, the handshake and its refusals are in frames.py and handshake.py. The hash of all
messages' layouts is part of the handshake (schema.py): both sides run the same messages or none.
"""
