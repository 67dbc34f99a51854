"""What is wrong with the configuration of an Envoy, an Istio or an Envoy Gateway that asks Tallygate.

Pure: text in, findings out. `source` reads the text, `scene` finds in it what asks Tallygate, a file for each
family of mistakes judges it, `mistakes` is the table of all of them, `examine` is the way in.
"""
