"""From a trained model to numbers: `likelihood` scores sequences, exactly the same alone and in any batch.

`batching` groups and pads, `inputs` reads what is to be scored, `runtime` chooses devices and loads models.
"""
