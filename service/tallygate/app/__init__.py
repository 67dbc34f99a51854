"""The composition root: adapters are built here and handed to what needs them, in the order a request meets them.

One module for each thing that a command runs, so that no command waits for the imports of another:
`control_plane` (the commands of every noun), `rest_api` (`admin`), `data_plane` (`serve`) and `explain`.
`pipeline` and `secret_settings` are what several of them share. Reads settings; nothing below does. Owns
nothing that runs. This file imports nothing: whoever needs a part names its module.
"""
